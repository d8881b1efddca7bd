metadata description = 'The few addresses that the daemon reads outside resource groups: quotas, operations in progress, and registered services.'

targetScope = 'subscription'

@description('Prefix and environment, the stem of names.')
param base string

@description('Object id of the identity of the daemon.')
param daemonPrincipalId string

var subscriptionId = subscription().id

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscriptionId, base, 'ebb-locations')
  properties: {
    roleName: 'Ebb locations (${base} ${uniqueString(subscriptionId, base)})'
    description: 'Reads the quotas of Container Instances, the state of its operations, and whether it is registered. All have addresses outside resource groups.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.ContainerInstance/locations/usages/read'
          'Microsoft.ContainerInstance/locations/operations/read'
          'Microsoft.ContainerInstance/locations/operationResults/read'
          'Microsoft.Resources/subscriptions/providers/read'
        ]
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      subscriptionId
    ]
  }
}

resource daemonReadsLocations 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscriptionId, daemonPrincipalId, role.id)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.name)
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}
