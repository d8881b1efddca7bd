metadata description = 'All that one environment of Ebb needs in one subscription, in three resource groups: what runs the daemon, what must outlast it, and the gateways that the daemon itself makes and removes.'

targetScope = 'subscription'

@description('Each environment is one deployment of its own; nothing is shared between two.')
@allowed([
  'dev'
  'staging'
  'prod'
])
param environmentName string

@description('First part of every name. With the environment it tells two deployments in one subscription apart.')
@minLength(2)
@maxLength(4)
param prefix string = 'ebb'

@description('Region of everything but the gateways, whose regions stand in the desired-state document.')
param location string

@description('Tag Project.')
@minLength(1)
param project string

@description('Tag Owner: the team or person who answers for the bill.')
@minLength(1)
param owner string

@description('Tag CostCenter.')
@minLength(1)
param costCenter string

@description('Image of the daemon, named by digest. Empty deploys everything except the daemon, which is how the registry comes to be before the first image.')
param daemonImage string = ''

@description('Image of the gateways, named by digest.')
param gatewayImage string = ''

@description('Where the desired-state document is. Empty means the container desired-state of the storage account made here; git+https and git+ssh addresses are the alternative.')
param document string = ''

@description('Replicas of the daemon. One leads; a second one stands by and takes over within the time of the lease.')
@minValue(1)
@maxValue(2)
param replicas int

@description('Into how many parts the sessions are divided. With 1 the daemon is billed as idle most of the time; with 2 or more both replicas lead, and neither is ever idle.')
@minValue(1)
@maxValue(16)
param shards int = 1

@description('Whether the API of the daemon is reachable over HTTPS. Without it the daemon is asked with az containerapp exec.')
param exposeApi bool

@description('Address ranges that may reach the API when it is exposed. Empty means everybody who has a key.')
param allowedClients array = []

@description('Seconds after which a gateway that hears neither from the daemon nor from users ends itself.')
@minValue(60)
@maxValue(86400)
param leaseSeconds int = 900

@description('What the daemon logs, for example info or debug.')
param logFilter string = 'info'

@description('Whether storage and vault accept connections only from the daemon and from operatorRanges. It puts the daemon into a virtual network.')
param isolateNetwork bool

@description('Public IPv4 addresses or ranges (/30 or larger) from which people and pipelines use storage and vault when isolateNetwork is set.')
param operatorRanges array = []

@description('Object id of the person or pipeline that deploys, who may then write the document. Empty gives it to nobody.')
param operatorId string = ''

@description('What operatorId is.')
@allowed([
  'User'
  'ServicePrincipal'
])
param operatorType string = 'User'

@description('UDP ports of sessions with network mode vnet, for example 41820. Each session needs one of its own. Without any there is no network for gateways.')
param gatewayPorts array = []

@description('Address range of the subnet of the daemon, a /27 or larger. It cannot be changed later.')
param daemonSubnetRange string = '10.90.0.0/26'

@description('Address range of the subnet of the gateways in sessions with network mode vnet.')
param gatewaySubnetRange string = '10.90.1.0/24'

@description('Kind of storage redundancy.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GZRS'
])
param storageSku string

@description('Whether vault and secrets can be purged before their retention ends. Once set it cannot be taken back.')
param purgeProtection bool

@description('Days for which deleted secrets can be recovered. It cannot be changed later.')
@minValue(7)
@maxValue(90)
param secretRetentionDays int

@description('Days for which logs are kept. Fewer than 31 saves nothing.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 31

@description('Most log data in GB a day, a brake on the bill.')
@minValue(1)
param logQuotaGb int = 1

@description('Monthly budget of all three resource groups, in the currency of the subscription.')
@minValue(1)
param budgetAmount int

@description('Who hears of the budget and of a daemon that restarts again and again. There is no default, so that somebody does.')
@minLength(1)
param alertEmails array

@description('First day of the budget, always the first of a month. An existing budget keeps the day it was made with.')
param budgetStart string = utcNow('yyyy-MM-01')

var base = '${prefix}-${environmentName}'
var tags = {
  Project: project
  Environment: environmentName
  Owner: owner
  CostCenter: costCenter
}
var vnet = isolateNetwork || !empty(gatewayPorts)

resource platformGroup 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${base}'
  location: location
  tags: tags
}

resource dataGroup 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${base}-data'
  location: location
  tags: tags
}

resource gatewayGroup 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${base}-gateways'
  location: location
  tags: tags
}

module identities 'modules/identities.bicep' = {
  scope: dataGroup
  name: 'identities'
  params: {
    base: base
    location: location
    tags: tags
  }
}

module logs 'modules/logs.bicep' = {
  scope: dataGroup
  name: 'logs'
  params: {
    base: base
    location: location
    tags: tags
    retentionDays: logRetentionDays
    quotaGb: logQuotaGb
  }
}

module network 'modules/network.bicep' = if (vnet) {
  scope: platformGroup
  name: 'network'
  params: {
    base: base
    location: location
    tags: tags
    daemonRange: daemonSubnetRange
    gatewayRange: gatewaySubnetRange
    gatewayPorts: gatewayPorts
    daemonPrincipalId: identities.outputs.daemonPrincipalId
  }
}

var daemonSubnetId = isolateNetwork ? network!.outputs.daemonSubnetId : ''

module storage 'modules/storage.bicep' = {
  scope: dataGroup
  name: 'storage'
  params: {
    name: take('${prefix}${environmentName}${uniqueString(dataGroup.id)}', 24)
    location: location
    tags: tags
    sku: storageSku
    subnetId: daemonSubnetId
    operatorRanges: operatorRanges
    isolate: isolateNetwork
    daemonPrincipalId: identities.outputs.daemonPrincipalId
    operatorId: operatorId
    operatorType: operatorType
    workspaceId: logs.outputs.workspaceId
  }
}

module vault 'modules/vault.bicep' = {
  scope: dataGroup
  name: 'vault'
  params: {
    name: take('${prefix}-${environmentName}-${uniqueString(dataGroup.id)}', 24)
    location: location
    tags: tags
    purgeProtection: purgeProtection
    retentionDays: secretRetentionDays
    subnetId: daemonSubnetId
    operatorRanges: operatorRanges
    isolate: isolateNetwork
    daemonPrincipalId: identities.outputs.daemonPrincipalId
    workspaceId: logs.outputs.workspaceId
  }
}

module registry 'modules/registry.bicep' = {
  scope: platformGroup
  name: 'registry'
  params: {
    name: take('${prefix}${environmentName}${uniqueString(platformGroup.id)}', 50)
    location: location
    tags: tags
    daemonPrincipalId: identities.outputs.daemonPrincipalId
    gatewayPullPrincipalId: identities.outputs.gatewayPullPrincipalId
  }
}

module gatewayAccess 'modules/gateway-access.bicep' = {
  scope: gatewayGroup
  name: 'gateway-access'
  params: {
    daemonPrincipalId: identities.outputs.daemonPrincipalId
  }
}

module subscriptionAccess 'modules/subscription-access.bicep' = {
  name: '${base}-subscription-access'
  params: {
    base: base
    daemonPrincipalId: identities.outputs.daemonPrincipalId
  }
}

module daemonEnvironment 'modules/environment.bicep' = {
  scope: platformGroup
  name: 'environment'
  params: {
    base: base
    location: location
    tags: tags
    subnetId: daemonSubnetId
    workspaceId: logs.outputs.workspaceId
  }
}

module daemon 'modules/daemon.bicep' = if (!empty(daemonImage)) {
  scope: platformGroup
  name: 'daemon'
  params: {
    base: base
    location: location
    tags: tags
    environmentId: daemonEnvironment.outputs.id
    registryServer: registry.outputs.server
    image: daemonImage
    gatewayImage: gatewayImage
    identityId: identities.outputs.daemonId
    identityClientId: identities.outputs.daemonClientId
    gatewayPullId: identities.outputs.gatewayPullId
    gatewayGroupName: gatewayGroup.name
    document: empty(document) ? '${storage.outputs.blobEndpoint}/desired-state/desired-state.yaml' : document
    store: storage.outputs.tableEndpoint
    vaultUri: vault.outputs.uri
    lock: '${storage.outputs.blobEndpoint}/leader/lock'
    replicas: replicas
    shards: shards
    exposeApi: exposeApi
    allowedClients: allowedClients
    leaseSeconds: leaseSeconds
    logFilter: logFilter
  }
  dependsOn: [
    gatewayAccess
    subscriptionAccess
  ]
}

module alerts 'modules/alerts.bicep' = if (!empty(daemonImage)) {
  scope: platformGroup
  name: 'alerts'
  params: {
    base: base
    tags: tags
    daemonId: daemon!.outputs.id
    emails: alertEmails
  }
}

resource budget 'Microsoft.Consumption/budgets@2024-08-01' = {
  name: 'budget-${base}'
  properties: {
    category: 'Cost'
    amount: budgetAmount
    timeGrain: 'Monthly'
    timePeriod: {
      startDate: budgetStart
    }
    filter: {
      dimensions: {
        name: 'ResourceGroupName'
        operator: 'In'
        values: [
          platformGroup.name
          dataGroup.name
          gatewayGroup.name
        ]
      }
    }
    notifications: {
      actual80: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 80
        thresholdType: 'Actual'
        contactEmails: alertEmails
      }
      actual100: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Actual'
        contactEmails: alertEmails
      }
      forecast100: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: alertEmails
      }
    }
  }
}

@description('Name of the registry, for deploy/up.')
output registryName string = registry.outputs.name

@description('Host name of the registry, for deploy/up.')
output registryServer string = registry.outputs.server

@description('Name of the storage account, for deploy/up.')
output storageAccount string = storage.outputs.name

@description('Name of the vault, for deploy/up.')
output vaultName string = vault.outputs.name

@description('Address of the API, empty when it is not exposed or there is no daemon yet.')
output daemonUrl string = empty(daemonImage) ? '' : daemon!.outputs.url

@description('What network.subnet of sessions with mode vnet has to say.')
output gatewaySubnetId string = empty(gatewayPorts) ? '' : network!.outputs.gatewaySubnetId

@description('What network.loadBalancer of sessions with mode vnet has to say.')
output loadBalancerId string = empty(gatewayPorts) ? '' : network!.outputs.loadBalancerId
