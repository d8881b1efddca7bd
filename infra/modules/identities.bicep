metadata description = 'Who the daemon is, and who pulls the image of the gateways. They live with the data, so that role assignments stay valid when everything else is removed and made again.'

@description('Prefix and environment, the stem of names.')
param base string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

resource daemon 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${base}-daemon'
  location: location
  tags: tags
}

resource gatewayPull 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${base}-gateway-pull'
  location: location
  tags: tags
}

// Managed Identity Operator: ARM demands userAssignedIdentities/assign from whoever makes a group that carries an identity.
var identityOperatorRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'f1a07417-d97a-45cb-824c-7a7470783830')

resource daemonAssignsGatewayPull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(gatewayPull.id, daemon.id, identityOperatorRole)
  scope: gatewayPull
  properties: {
    roleDefinitionId: identityOperatorRole
    principalId: daemon.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

@description('Resource id of the identity of the daemon.')
output daemonId string = daemon.id

@description('Client id of the identity of the daemon.')
output daemonClientId string = daemon.properties.clientId

@description('Object id of the identity of the daemon.')
output daemonPrincipalId string = daemon.properties.principalId

@description('Resource id of the identity that pulls the image of the gateways.')
output gatewayPullId string = gatewayPull.id

@description('Object id of the identity that pulls the image of the gateways.')
output gatewayPullPrincipalId string = gatewayPull.properties.principalId
