metadata description = 'Tells people when the daemon does not stay up. What happens to sessions is for the alert rules in deploy/prometheus.'

@description('Prefix and environment, the stem of names.')
param base string

@description('Mandatory tags.')
param tags object

@description('Resource id of the daemon.')
param daemonId string

@description('Who is told.')
param emails array

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${base}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: take(base, 12)
    emailReceivers: [for (email, index) in emails: {
      name: 'email-${index}'
      emailAddress: email
      useCommonAlertSchema: true
    }]
  }
}

resource restarts 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'alert-${base}-restarts'
  location: 'global'
  tags: tags
  properties: {
    description: 'A replica of the daemon of Ebb restarted more than ten times in its life. Gateways go on, but sessions start and end late or not at all. See deploy/runbooks.md.'
    enabled: true
    severity: 1
    scopes: [
      daemonId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'restarts'
          metricNamespace: 'Microsoft.App/containerapps'
          metricName: 'RestartCount'
          operator: 'GreaterThan'
          // The metric counts over the life of a replica; a new revision begins at zero.
          threshold: 10
          timeAggregation: 'Maximum'
        }
      ]
    }
    actions: [
      {
        actionGroupId: people.id
      }
    ]
  }
}

resource replicas 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'alert-${base}-replicas'
  location: 'global'
  tags: tags
  properties: {
    description: 'No daemon of Ebb runs. Gateways end themselves when their lease is over. See deploy/runbooks.md.'
    enabled: true
    severity: 1
    scopes: [
      daemonId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'replicas'
          metricNamespace: 'Microsoft.App/containerapps'
          metricName: 'Replicas'
          operator: 'LessThan'
          threshold: 1
          timeAggregation: 'Maximum'
        }
      ]
    }
    actions: [
      {
        actionGroupId: people.id
      }
    ]
  }
}
