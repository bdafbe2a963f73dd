# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``str.format`` templates for the YAML of the sample operators."""

ICON = (
    "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCA4IDgiPjxjaXJjbGUgY3g9IjQiIGN5"
    "PSI0IiByPSI0Ii8+PC9zdmc+"
)

CSV_HEAD = """\
apiVersion: operators.coreos.com/v1alpha1
kind: ClusterServiceVersion
metadata:
  name: {name}
  namespace: placeholder
  annotations:
    capabilities: Seamless Upgrades
    categories: "Database, Storage"
    certified: "false"
    containerImage: {image}
    createdAt: "2019-06-01T12:00:00Z"
    description: {title}, run by an operator.
    support: Example Works
    alm-examples: |-
      {examples}
spec:
  displayName: {title}
  description: |
    {description}
  icon:
  - base64data: {icon}
    mediatype: image/svg+xml
  keywords: [storage, 'cache', example]
  maturity: alpha
  version: {version}
{replaces}  provider:
    name: Example Works
  maintainers:
  - name: The Maintainers
    email: maintainers@example.org
  links:
  - name: Documentation
    url: https://docs.example.org/
  installModes:
  - {{type: OwnNamespace, supported: true}}
  - {{type: SingleNamespace, supported: true}}
  - {{type: MultiNamespace, supported: false}}
  - {{type: AllNamespaces, supported: false}}
  customresourcedefinitions:
    owned:
"""

OWNED = """\
    - name: {crd}
      version: {resource.version}
      kind: {resource.kind}
      displayName: {resource.kind}
      description: Describes one {resource.kind}.
      resources:
      - {{kind: Service, version: v1}}
      - {{kind: StatefulSet, version: apps/v1}}
"""

DESCRIPTOR = """\
      - description: {text}
        displayName: {title}
        path: {path}
        x-descriptors:
        - 'urn:alm:descriptor:com.tectonic.ui:label'
"""

RULES = """\
        - apiGroups: [{group}]
          resources:
{plurals}          verbs: ['*']
        - apiGroups: ['']
          resources: [pods, services, configmaps, secrets]
          verbs: [get, list, watch, create, delete]
"""

INSTALL = """\
  install:
    strategy: deployment
    spec:
      permissions:
      - serviceAccountName: {package}
        rules:
{rules}      deployments:
      - name: {package}
        spec:
          replicas: 1
          selector:
            matchLabels: {{name: {package}}}
          template:
            metadata:
              labels: {{name: {package}}}
            spec:
              serviceAccountName: {package}
              containers:
              - name: operator
                image: {image}
                env:
                - name: WATCH_NAMESPACE
                  valueFrom:
                    fieldRef: {{fieldPath: metadata.namespace}}
"""

CRD_HEAD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {crd}
spec:
  group: {resource.group}
  names:
    kind: {resource.kind}
    listKind: {resource.kind}List
    plural: {resource.plural}
    singular: {singular}
  scope: Namespaced
  versions:
  - name: {resource.version}
    served: true
    storage: true
    subresources:
      status: {{}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size:
                description: How many of them there are to be.
                type: integer
                minimum: 1
"""
