metadata description = 'Where the daemon runs.'

@description('Prefix and environment, the stem of names.')
param base string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

@description('Subnet of the daemon. Empty runs it outside any virtual network.')
param subnetId string

@description('Log Analytics workspace.')
param workspaceId string

resource managed 'Microsoft.App/managedEnvironments@2025-01-01' = {
  name: 'cae-${base}'
  location: location
  tags: tags
  properties: {
    // Through diagnostic settings: the other way needs the key of the workspace.
    appLogsConfiguration: {
      destination: 'azure-monitor'
    }
    vnetConfiguration: empty(subnetId) ? null : {
      infrastructureSubnetId: subnetId
      internal: false
    }
    workloadProfiles: [
      {
        name: 'Consumption'
        workloadProfileType: 'Consumption'
      }
    ]
    zoneRedundant: false
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: managed
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'ContainerAppConsoleLogs'
        enabled: true
      }
      {
        category: 'ContainerAppSystemLogs'
        enabled: true
      }
    ]
  }
}

@description('Resource id.')
output id string = managed.id
