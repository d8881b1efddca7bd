metadata description = 'The private keys of gateways, users and the daemon.'

@description('Name of the vault.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

@description('Whether deleted secrets cannot be purged before their retention ends.')
param purgeProtection bool

@description('Days for which deleted secrets can be recovered.')
param retentionDays int

@description('Whether only the subnet of the daemon and operatorRanges reach the vault.')
param isolate bool

@description('Subnet of the daemon; used when isolate is set.')
param subnetId string

@description('Public IPv4 ranges from which people and pipelines reach the vault.')
param operatorRanges array

@description('Object id of the identity of the daemon.')
param daemonPrincipalId string

@description('Log Analytics workspace for audit records.')
param workspaceId string

var groupId = resourceGroup().id

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  // checkov:skip=CKV_AZURE_109: isolate decides; without it callers still need a token and a role
  // checkov:skip=CKV_AZURE_110: purgeProtection decides; the parameter files set it for all but dev
  // checkov:skip=CKV_AZURE_42: soft delete is on; purgeProtection decides about the rest
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: retentionDays
    // The service refuses false: protection is either on for ever or not mentioned.
    enablePurgeProtection: purgeProtection ? true : null
    enabledForDeployment: false
    enabledForDiskEncryption: false
    enabledForTemplateDeployment: false
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: isolate ? 'Deny' : 'Allow'
      ipRules: [for block in operatorRanges: {
        value: block
      }]
      virtualNetworkRules: isolate ? [
        {
          id: subnetId
        }
      ] : []
    }
  }
}

// Ebb writes new versions of names that stay and removes none; purging and reading backups are for people.
resource secretsRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(groupId, 'ebb-secrets')
  properties: {
    roleName: 'Ebb secrets (${resourceGroup().name} ${uniqueString(groupId)})'
    description: 'Reads, writes and recovers the keys that Ebb keeps. It can neither delete nor purge one.'
    type: 'CustomRole'
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/secrets/readMetadata/action'
          'Microsoft.KeyVault/vaults/secrets/getSecret/action'
          'Microsoft.KeyVault/vaults/secrets/setSecret/action'
          'Microsoft.KeyVault/vaults/secrets/recover/action'
        ]
        notDataActions: []
      }
    ]
    assignableScopes: [
      groupId
    ]
  }
}

resource daemonUsesSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, daemonPrincipalId, secretsRole.id)
  scope: vault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsRole.name)
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'AuditEvent'
        enabled: true
      }
    ]
  }
}

@description('Name of the vault.')
output name string = vault.name

@description('Address of the vault, without a slash at the end.')
output uri string = 'https://${vault.name}${environment().suffixes.keyvaultDns}'
