metadata description = 'The registry of both images. Only identities pull from it; it has no password.'

@description('Name of the registry.')
@minLength(5)
@maxLength(50)
param name string

@description('Region.')
param location string

@description('Mandatory tags.')
param tags object

@description('Object id of the identity of the daemon.')
param daemonPrincipalId string

@description('Object id of the identity that pulls the image of the gateways.')
param gatewayPullPrincipalId string

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  // checkov:skip=CKV_AZURE_139: Container Instances pull over the public endpoint; the Basic tier has no other
  // checkov:skip=CKV_AZURE_163: scanning is Defender for Cloud, a setting of the subscription; the release workflow makes an SBOM
  // checkov:skip=CKV_AZURE_166: quarantine needs the Premium tier; images are named by digest
  name: name
  location: location
  tags: tags
  sku: {
    name: 'Basic'
  }
  properties: {
    adminUserEnabled: false
  }
}

var pullRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '7f951dda-4ed3-4680-a7ca-43fe172d538d')

resource daemonPulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, daemonPrincipalId, pullRole)
  scope: registry
  properties: {
    roleDefinitionId: pullRole
    principalId: daemonPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource gatewaysPull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, gatewayPullPrincipalId, pullRole)
  scope: registry
  properties: {
    roleDefinitionId: pullRole
    principalId: gatewayPullPrincipalId
    principalType: 'ServicePrincipal'
  }
}

@description('Name of the registry.')
output name string = registry.name

@description('Its host name.')
output server string = registry.properties.loginServer
