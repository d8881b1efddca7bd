metadata description = 'The virtual network: a subnet for the daemon, and for sessions with network mode vnet a subnet, a load balancer for the way in and a NAT gateway for the way out.'

@description('Prefix and environment, the stem of names.')
param base string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

@description('Address range of the subnet of the daemon.')
param daemonRange string

@description('Address range of the subnet of the gateways.')
param gatewayRange string

@description('UDP ports of sessions behind the load balancer; without any there is none.')
param gatewayPorts array

@description('Object id of the identity of the daemon.')
param daemonPrincipalId string

var forGateways = !empty(gatewayPorts)
var ports = [for port in gatewayPorts: string(port)]
var loadBalancerName = 'lbe-${base}'
var groupId = resourceGroup().id

resource daemonRules 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: 'nsg-${base}-daemon'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'https'
        properties: {
          description: 'The API, when it is exposed.'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '443'
        }
      }
    ]
  }
}

resource gatewayRules 'Microsoft.Network/networkSecurityGroups@2024-07-01' = if (forGateways) {
  name: 'nsg-${base}-gateways'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'wireguard'
        properties: {
          description: 'WireGuard of the sessions. It answers nobody who does not know a key of it.'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Udp'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRanges: ports
        }
      }
    ]
  }
}

resource exitAddress 'Microsoft.Network/publicIPAddresses@2024-07-01' = if (forGateways) {
  name: 'pip-${base}-exit'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
  }
}

// The only way out that Container Instances supports in a virtual network.
resource exit 'Microsoft.Network/natGateways@2024-07-01' = if (forGateways) {
  name: 'ng-${base}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    idleTimeoutInMinutes: 10
    publicIpAddresses: [
      {
        id: exitAddress.id
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-07-01' = {
  name: 'vnet-${base}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        daemonRange
        gatewayRange
      ]
    }
    // Subnets stand here and not in resources of their own: a deployment would remove those it does not find in the network.
    subnets: concat([
      {
        name: 'daemon'
        properties: {
          addressPrefix: daemonRange
          networkSecurityGroup: {
            id: daemonRules.id
          }
          delegations: [
            {
              name: 'container-apps'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
          serviceEndpoints: [
            {
              service: 'Microsoft.Storage'
            }
            {
              service: 'Microsoft.KeyVault'
            }
          ]
        }
      }
    ], forGateways ? [
      {
        name: 'gateways'
        properties: {
          addressPrefix: gatewayRange
          networkSecurityGroup: {
            id: gatewayRules.id
          }
          natGateway: {
            id: exit.id
          }
          delegations: [
            {
              name: 'container-instances'
              properties: {
                serviceName: 'Microsoft.ContainerInstance/containerGroups'
              }
            }
          ]
        }
      }
    ] : [])
  }
}

resource entryAddress 'Microsoft.Network/publicIPAddresses@2024-07-01' = if (forGateways) {
  name: 'pip-${base}-entry'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
  }
}

// The daemon keeps a rule and a pool for each session here. A deployment takes them away, and the daemon puts them back at its
// next look, within a minute.
resource loadBalancer 'Microsoft.Network/loadBalancers@2024-07-01' = if (forGateways) {
  name: loadBalancerName
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    frontendIPConfigurations: [
      {
        name: 'public'
        properties: {
          publicIPAddress: {
            id: entryAddress.id
          }
        }
      }
    ]
  }
}

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (forGateways) {
  name: guid(groupId, 'ebb-network')
  properties: {
    roleName: 'Ebb network (${resourceGroup().name} ${uniqueString(groupId)})'
    description: 'Puts container groups into the subnet of the gateways and keeps their rules and pools on the load balancer.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Network/virtualNetworks/subnets/read'
          'Microsoft.Network/virtualNetworks/subnets/join/action'
          'Microsoft.Network/virtualNetworks/joinLoadBalancer/action'
          'Microsoft.Network/loadBalancers/read'
          'Microsoft.Network/loadBalancers/write'
          'Microsoft.Network/publicIPAddresses/read'
          'Microsoft.Network/publicIPAddresses/join/action'
          'Microsoft.Authorization/permissions/read'
        ]
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      groupId
    ]
  }
}

resource daemonJoinsNetwork 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (forGateways) {
  name: guid(network.id, daemonPrincipalId, role.id)
  scope: network
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.name)
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource daemonKeepsRules 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (forGateways) {
  name: guid(loadBalancer.id, daemonPrincipalId, role.id)
  scope: loadBalancer
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.name)
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource daemonUsesAddress 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (forGateways) {
  name: guid(entryAddress.id, daemonPrincipalId, role.id)
  scope: entryAddress
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.name)
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

@description('Subnet of the daemon.')
output daemonSubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', network.name, 'daemon')

@description('Subnet of the gateways; there is one when there are ports.')
output gatewaySubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', network.name, 'gateways')

@description('Load balancer; there is one when there are ports.')
output loadBalancerId string = resourceId('Microsoft.Network/loadBalancers', loadBalancerName)
