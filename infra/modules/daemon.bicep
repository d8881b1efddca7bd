metadata description = 'The daemon. It holds no secret: everything it needs it gets as the identity it runs under.'

@description('Prefix and environment, the stem of names.')
param base string

@description('Region.')
param location string

@description('Mandatory tags. The daemon puts the same ones on every gateway.')
param tags object

@description('Container Apps environment.')
param environmentId string

@description('Host name of the registry.')
param registryServer string

@description('Image of the daemon, by digest.')
param image string

@description('Image of the gateways, by digest.')
param gatewayImage string

@description('Resource id of the identity of the daemon.')
param identityId string

@description('Client id of the identity of the daemon.')
param identityClientId string

@description('Resource id of the identity that pulls the image of the gateways.')
param gatewayPullId string

@description('Resource group of the gateways.')
param gatewayGroupName string

@description('Address of the document.')
param document string

@description('Address of the tables.')
param store string

@description('Address of the vault.')
param vaultUri string

@description('Address of the blob whose lease says who leads.')
param lock string

@description('How many daemons run.')
param replicas int

@description('Into how many parts the sessions are divided. With 1 one daemon leads and the others stand by.')
param shards int

@description('Whether the API is reachable over HTTPS.')
param exposeApi bool

@description('Address ranges that may reach the API. Empty means everybody.')
param allowedClients array

@description('Seconds after which a gateway on its own ends itself.')
param leaseSeconds int

@description('What the daemon logs.')
param logFilter string

var port = 9180

var accessRules = [for (client, index) in allowedClients: {
  name: 'client-${index}'
  action: 'Allow'
  ipAddressRange: client
}]

resource app 'Microsoft.App/containerApps@2025-01-01' = {
  name: 'ca-${base}'
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    environmentId: environmentId
    workloadProfileName: 'Consumption'
    configuration: {
      // The new revision is ready while the old one still leads; the lease decides when it takes over.
      activeRevisionsMode: 'Single'
      maxInactiveRevisions: 5
      registries: [
        {
          server: registryServer
          identity: identityId
        }
      ]
      ingress: exposeApi ? {
        external: true
        targetPort: port
        transport: 'http'
        allowInsecure: false
        ipSecurityRestrictions: accessRules
      } : null
    }
    template: {
      // Longer than the 10 s in which the daemon ends at an action boundary.
      terminationGracePeriodSeconds: 30
      containers: [
        {
          name: 'ebb'
          image: image
          args: [
            'run'
          ]
          // The smallest size; the idle price applies below 0.01 of a core and 1,000 bytes a second.
          resources: {
            cpu: json('0.25')
            memory: '0.5Gi'
          }
          env: [
            {
              name: 'EBB_PROVIDER'
              value: 'aci'
            }
            {
              name: 'EBB_DOCUMENT'
              value: document
            }
            {
              name: 'EBB_STORE'
              value: store
            }
            {
              name: 'EBB_SECRETS'
              value: vaultUri
            }
            {
              name: 'EBB_LOCK'
              value: lock
            }
            {
              name: 'EBB_STATE'
              value: '/var/lib/ebb'
            }
            {
              name: 'EBB_API'
              value: '0.0.0.0:${port}'
            }
            {
              name: 'EBB_AZURE_SUBSCRIPTION'
              value: subscription().subscriptionId
            }
            {
              name: 'EBB_AZURE_RESOURCE_GROUP'
              value: gatewayGroupName
            }
            {
              name: 'EBB_AZURE_CLIENT_ID'
              value: identityClientId
            }
            {
              name: 'EBB_GATEWAY_IMAGE'
              value: gatewayImage
            }
            {
              name: 'EBB_GATEWAY_IDENTITY'
              value: gatewayPullId
            }
            {
              name: 'EBB_TAGS'
              value: 'Project=${tags.Project},Environment=${tags.Environment},Owner=${tags.Owner},CostCenter=${tags.CostCenter}'
            }
            {
              name: 'EBB_SHARDS'
              value: string(shards)
            }
            {
              name: 'EBB_LEASE_SECONDS'
              value: string(leaseSeconds)
            }
            {
              name: 'EBB_LOG'
              value: logFilter
            }
          ]
          probes: [
            {
              type: 'Startup'
              httpGet: {
                path: '/livez'
                port: port
              }
              periodSeconds: 2
              failureThreshold: 30
            }
            {
              type: 'Liveness'
              httpGet: {
                path: '/livez'
                port: port
              }
              periodSeconds: 30
              timeoutSeconds: 5
              failureThreshold: 3
            }
            {
              // Not /readyz, which only who leads passes: a new revision leads when the old one has ended, and the old one ends
              // when the new one is ready.
              type: 'Readiness'
              httpGet: {
                path: '/livez'
                port: port
              }
              periodSeconds: 15
              timeoutSeconds: 5
              failureThreshold: 3
            }
          ]
        }
      ]
      scale: {
        minReplicas: replicas
        maxReplicas: replicas
      }
    }
  }
}

@description('Resource id.')
output id string = app.id

@description('Address of the API, empty when it is not exposed.')
output url string = exposeApi ? 'https://${app.properties.configuration.ingress.fqdn}' : ''
