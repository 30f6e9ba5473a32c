// What a compose file says of addresses, and of when images are pulled → labels of the service, since Swarm's API has no field for it.

import { publishProblem } from '../../api/publish-addresses.ts'
import { PULL_POLICY_LABEL } from '../../api/service-labels.ts'
import type { Labels, PortConfig } from '../../api/spec.ts'
import { staticAddressLabel, staticAddressProblem } from '../../api/static-addresses.ts'
import { hostAddresses, type Publication, portsOf, publishLabels } from '../service/ports.ts'
import { quote } from '../strconv.ts'
import { networksOf } from './convert-objects.ts'
import { compact, located } from './fields.ts'
import type { ComposeModel, PortModel, ServiceModel } from './model.ts'
import { scopedName } from './names.ts'
import { ComposeError } from './node.ts'

/** @throws {ComposeError} */
export function addressLabels(stack: string, service: ServiceModel, compose: ComposeModel): Labels {
  const published = publishLabels(publications(service))
  for (const [label, value] of Object.entries(published)) {
    const problem = publishProblem(label, value)
    if (problem) throw new ComposeError(service.keyAt.get('ports') ?? service.at, `ports: host_ip: ${problem}`)
  }
  return {
    ...published,
    ...staticAddressLabels(stack, service, compose),
    ...pullPolicyLabel(service),
  }
}

/** A port that is published on several addresses, entry by entry, is one. */
export function publishedPorts(service: ServiceModel): readonly PortConfig[] {
  return portsOf(publications(service))
}

function publications({ ports = [] }: ServiceModel): readonly Publication[] {
  const all = ports.map((model) => [model, publication(model)] as const)
  for (const [model, { port, addresses }] of all) {
    const other = all.find(([, { port: one }]) => isSameNumber(one, port) && one.TargetPort !== port.TargetPort)
    if (addresses.length > 0 && other) {
      const name = `${port.PublishedPort}/${port.Protocol ?? 'tcp'}`
      throw new ComposeError(
        model.at,
        `published port ${name} can't lead to ${port.TargetPort} on ${addresses.join(', ')} and to ${other[1].port.TargetPort} elsewhere`,
      )
    }
  }
  return all.map(([, one]) => one)
}

function publication(model: PortModel): Publication {
  const port = compact<PortConfig>({
    Protocol: model.protocol as PortConfig['Protocol'],
    TargetPort: model.target,
    PublishedPort: model.published || undefined,
    PublishMode: model.mode as PortConfig['PublishMode'],
  })
  const hostIps = (model.host_ip ?? '').split(',').map((text) => text.trim().replace(/^\[(.*)\]$/, '$1'))
  const given = hostIps.filter((text) => text !== '')
  return { port, addresses: located(model, () => hostAddresses(given, port)) }
}

function isSameNumber(a: PortConfig, b: PortConfig): boolean {
  return (a.PublishedPort ?? 0) > 0 && a.PublishedPort === b.PublishedPort && protocolOf(a) === protocolOf(b)
}

const protocolOf = ({ Protocol = 'tcp' }: PortConfig) => Protocol

function staticAddressLabels(stack: string, service: ServiceModel, compose: ComposeModel): Labels {
  const labels: Record<string, string> = {}
  for (const [key, attachment] of networksOf(service)) {
    const { ipv4_address: v4 = '', ipv6_address: v6 = '' } = attachment ?? {}
    const value = [v4, v6].filter((address) => address !== '').join(',')
    if (!attachment || value === '') continue
    const label = staticAddressLabel(compose.networks.get(key)?.name || scopedName(stack, key))
    const isSwapped = v4.includes(':') || (v6 !== '' && !v6.includes(':'))
    const problem = isSwapped ? `${quote(v4 || v6)} is of the other family` : staticAddressProblem(label, value)
    if (problem)
      throw new ComposeError(attachment.at, `networks.${key}: ${v4 === '' ? 'ipv6' : 'ipv4'}_address: ${problem}`)
    if (service.deploy?.endpoint_mode?.toLowerCase() === 'dnsrr') {
      throw new ComposeError(
        attachment.at,
        `networks.${key}: an address is the service's virtual address, and with endpoint_mode: dnsrr there is none`,
      )
    }
    labels[label] = value
  }
  return labels
}

const PULL_POLICIES: Readonly<Record<string, string>> = {
  always: 'always',
  missing: 'missing',
  if_not_present: 'missing',
  never: 'never',
}

function pullPolicyLabel({ pull_policy: policy = '', keyAt, at }: ServiceModel): Labels {
  if (policy === '') return {}
  const value = Object.hasOwn(PULL_POLICIES, policy) ? PULL_POLICIES[policy] : undefined
  if (value !== undefined) return { [PULL_POLICY_LABEL]: value }
  const why =
    policy === 'build'
      ? 'a cluster builds no images: build it, and push it to a registry or bring it to the nodes with `image push`'
      : /^(?:daily|weekly|every_.*|refresh)$/.test(policy)
        ? 'nodes pull when a task starts, and not by the clock'
        : 'it is not known'
  throw new ComposeError(
    keyAt.get('pull_policy') ?? at,
    `pull_policy: ${quote(policy)} can't be: ${why}; it must be always, missing, if_not_present or never`,
  )
}
