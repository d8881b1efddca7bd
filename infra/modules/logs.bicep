metadata description = 'Where logs and audit records go.'

@description('Prefix and environment, the stem of names.')
param base string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

@description('Days for which logs are kept.')
param retentionDays int

@description('Most data in GB a day.')
param quotaGb int

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${base}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    workspaceCapping: {
      dailyQuotaGb: quotaGb
    }
    features: {
      // Everything here arrives through diagnostic settings; no key is needed, so none shall work.
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

@description('Resource id of the workspace.')
output workspaceId string = workspace.id
