metadata description = 'What the daemon may do in the resource group of the gateways, and nowhere else.'

@description('Object id of the identity of the daemon.')
param daemonPrincipalId string

var groupId = resourceGroup().id

// containerGroups/write covers the PATCH of tags. There is no exec and no attach: nobody enters a gateway.
resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(groupId, 'ebb-gateways')
  properties: {
    roleName: 'Ebb gateways (${resourceGroup().name} ${uniqueString(groupId)})'
    description: 'Makes, stops and removes the container groups of Ebb and reads their logs, and what it may do there.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.ContainerInstance/containerGroups/read'
          'Microsoft.ContainerInstance/containerGroups/write'
          'Microsoft.ContainerInstance/containerGroups/delete'
          'Microsoft.ContainerInstance/containerGroups/stop/action'
          'Microsoft.ContainerInstance/containerGroups/containers/logs/read'
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

resource daemonRunsGateways 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(groupId, daemonPrincipalId, role.id)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.name)
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}
