metadata description = 'The document with its history, the lock of the daemon, and the tables of its store.'

@description('Name of the account.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

@description('Redundancy.')
param sku string

@description('Whether only the subnet of the daemon and operatorRanges reach the account.')
param isolate bool

@description('Subnet of the daemon; used when isolate is set.')
param subnetId string

@description('Public IPv4 ranges from which people and pipelines reach the account.')
param operatorRanges array

@description('Object id of the identity of the daemon.')
param daemonPrincipalId string

@description('Object id of who deploys. Empty gives nobody but the daemon access to the document.')
param operatorId string

@description('What operatorId is: User or ServicePrincipal.')
param operatorType string

@description('Log Analytics workspace for audit records.')
param workspaceId string

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  // checkov:skip=CKV_AZURE_35: isolate decides; without it callers still need a token and a role
  // checkov:skip=CKV_AZURE_59: there is no private endpoint; isolate closes the public one to all but the daemon and operators
  // checkov:skip=CKV_AZURE_206: the parameter files choose the redundancy of each environment
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: isolate ? 'Deny' : 'Allow'
      ipRules: [for block in operatorRanges: {
        value: block
        action: 'Allow'
      }]
      virtualNetworkRules: isolate ? [
        {
          id: subnetId
          action: 'Allow'
        }
      ] : []
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: {
      enabled: true
      days: 30
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 30
    }
  }
}

resource documents 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: 'desired-state'
  properties: {
    publicAccess: 'None'
  }
}

resource leader 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: 'leader'
  properties: {
    publicAccess: 'None'
  }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-01-01' = {
  parent: account
  name: 'default'
}

// Every accepted document is a version of one blob. A year of them is enough to answer who changed what.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'old-documents'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                'desired-state/'
              ]
            }
            actions: {
              version: {
                delete: {
                  daysAfterCreationGreaterThan: 365
                }
              }
            }
          }
        }
      ]
    }
  }
  dependsOn: [
    blobs
  ]
}

var blobContributorRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
var tableContributorRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3')

// Writing is for ebb edit and ebb rollback; versions and soft delete keep what was there.
resource daemonUsesDocuments 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(documents.id, daemonPrincipalId, blobContributorRole)
  scope: documents
  properties: {
    roleDefinitionId: blobContributorRole
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource operatorUsesDocuments 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId)) {
  name: guid(documents.id, operatorId, blobContributorRole)
  scope: documents
  properties: {
    roleDefinitionId: blobContributorRole
    principalId: operatorId
    principalType: operatorType
  }
}

resource daemonLeases 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(leader.id, daemonPrincipalId, blobContributorRole)
  scope: leader
  properties: {
    roleDefinitionId: blobContributorRole
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// The daemon makes its tables itself, which needs the role on the account. The account holds nothing else.
resource daemonUsesTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, daemonPrincipalId, tableContributorRole)
  scope: account
  properties: {
    roleDefinitionId: tableContributorRole
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Writes only: the daemon reads every few seconds, and a record of each read would cost more than the daemon.
resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: blobs
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

@description('Name of the account.')
output name string = account.name

@description('Address of its blobs, without a slash at the end.')
output blobEndpoint string = 'https://${account.name}.blob.${environment().suffixes.storage}'

@description('Address of its tables, without a slash at the end.')
output tableEndpoint string = 'https://${account.name}.table.${environment().suffixes.storage}'
