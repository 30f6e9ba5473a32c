// `swarmctl network check`: whom to ask, and what to make of the answers. Pure.

import { isIP } from 'node:net'
import type { ManagerAddress } from '../../api/dispatcher.ts'
import type {
  NetworkCheckJson,
  NetworkProbeJson,
  ProbeAnswer,
  ProbeRequest,
  ProbeResult,
} from '../../api/network-check.ts'
import type { Network, Node } from '../../api/objects.ts'
import { ENCRYPTED_OPTION } from '../../api/validation/payload.ts'
import type { StoreView } from '../store/types.ts'
import { find, nameOf } from './lookup.ts'

export interface CheckPlan {
  readonly request: ProbeRequest
  /** Nodes that are up. */
  readonly nodes: readonly Node[]
}

/** @param term name or id of a network; empty: all */
export function planCheck(view: StoreView, term: string): CheckPlan {
  const networkIds = term === '' ? [] : [find(view, 'network', term).id]
  const nodes = view.list('node').filter(({ status }) => status.state === 'ready')
  const managers = view.list('node').flatMap((node): ManagerAddress[] => {
    return node.manager ? [{ nodeId: node.id, address: node.manager.address }] : []
  })
  return { request: { networkIds, managers }, nodes: [...nodes].sort((a, b) => order(nameOf(a), nameOf(b))) }
}

export interface CheckedNode {
  readonly node: Node
  /** What it said, or why nothing. */
  readonly answer: ProbeAnswer | { readonly error: string }
}

export function checkResult(view: StoreView, checked: readonly CheckedNode[]): NetworkCheckJson {
  const probes: NetworkProbeJson[] = []
  const problems: string[] = []
  for (const { node, answer } of checked) {
    const from = nameOf(node)
    if ('error' in answer) {
      problems.push(`nothing was tried from ${from}: ${answer.error}`)
      continue
    }
    const down = (id: string) => view.get('node', id)?.status.state !== 'ready'
    for (const result of answer.results.filter(({ to }) => !down(to))) {
      const to = nameOf(view.get('node', result.to)!)
      const network = result.kind === 'network' ? view.get('network', result.networkId) : undefined
      if (network) probes.push(probeJson(result, network, from, to))
      const problem = problemOf(result, { from, to, network, view, results: answer.results })
      if (problem !== '') problems.push(problem)
    }
  }
  // Stable: IPv4 before IPv6, as they were tried.
  probes.sort((a, b) => order(a.Network, b.Network) || order(a.From, b.From) || order(a.To, b.To))
  return {
    Nodes: checked.map(({ node, answer }) => ({
      ID: node.id,
      Hostname: nameOf(node),
      Error: 'error' in answer ? answer.error : '',
    })),
    Probes: probes,
    Problems: problems,
  }
}

function probeJson(result: ProbeResult, network: Network, from: string, to: string): NetworkProbeJson {
  return {
    NetworkID: network.id,
    Network: nameOf(network),
    From: from,
    To: to,
    Address: result.address,
    State: stateOf(result),
    Sent: result.sent,
    Answered: result.answered,
    RoundTripMs: result.roundTripMs,
    MTU: result.mtu,
    MTUPasses: result.mtuPasses,
  }
}

function stateOf({ sent, answered, mtuPasses }: ProbeResult): string {
  if (answered === 0) return 'unreachable'
  if (answered < sent) return 'loss'
  return mtuPasses ? 'ok' : 'mtu'
}

interface Circumstances {
  readonly from: string
  readonly to: string
  readonly network: Network | undefined
  readonly view: StoreView
  readonly results: readonly ProbeResult[]
}

/** For people, with what to look at; empty where all is well. */
function problemOf(result: ProbeResult, { from, to, network, view, results }: Circumstances): string {
  const { kind, state, address, sent, answered, mtu } = result
  if (kind === 'control') {
    if (state === 'open') return ''
    const hint =
      state === 'silent'
        ? 'a firewall seems to drop it'
        : state === 'refused'
          ? 'a firewall rejects it, or swarmd does not listen there'
          : 'there is no route'
    return `${from} cannot reach manager ${to} at ${address}/tcp: ${hint}`
  }
  if (!network) return ''
  const by = isIP(address) === 6 ? ' by IPv6' : ''
  const where = `network ${nameOf(network)}: from ${from} to ${to}${by}`
  switch (stateOf(result)) {
    case 'loss':
      return `${where} ${sent - answered} of ${sent} packets are lost`
    case 'mtu':
      return `${where} packets of ${mtu} bytes do not pass: the hosts' network carries less than their links say; set the network's MTU (--opt com.docker.network.driver.mtu=…)`
    case 'unreachable':
      return `${where} nothing passes: ${unreachableHint(result, network, view, results, to)}`
    default:
      return ''
  }
}

function unreachableHint(
  { to: id, address }: ProbeResult,
  network: Network,
  view: StoreView,
  results: readonly ProbeResult[],
  to: string,
): string {
  const port = view.get('node', id)?.dataPath?.port ?? view.cluster()?.dataPathPort
  const other = results.find(
    (one) => one.kind === 'network' && one.networkId === network.id && one.to === id && one.address !== address,
  )
  if (other && other.answered > 0) {
    const [passes, closed] = isIP(address) === 6 ? ['IPv4', 'IPv6'] : ['IPv6', 'IPv4']
    return `${passes} passes between the same two containers, ${closed} does not: the container at ${address} has it switched off, or a rule of its own drops it`
  }
  const host = results.find((one) => one.kind === 'host' && one.to === id)
  const between = results.find(
    (one) => one.kind === 'network' && one.to === id && isPlain(view.get('network', one.networkId)),
  )
  if (!isPlain(network)) {
    return `is UDP 51833 and 51834 (WireGuard) let through between the nodes? ${view.get('node', id)?.dataPath?.encryptionProblem ?? ''}`.trim()
  }
  if (between && between.answered > 0) return `the nodes reach each other, the container at ${address} does not answer`
  if (host && host.answered > 0)
    return `${to} answers at ${host.address} otherwise; is UDP ${port} let through both ways?`
  return `${to} does not answer at ${host?.address ?? 'its address'} at all; is its data path address right, and UDP ${port} let through?`
}

function isPlain(network: Network | undefined): boolean {
  return network !== undefined && network.spec.DriverConfiguration?.Options?.[ENCRYPTED_OPTION] === undefined
}

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
