// Tells of services whose published ports some nodes can't serve, because the host has them in use already, or no node serves, because
// none has one of the addresses that they are for. The services run on, and other nodes serve them: it is a note on the service, which
// goes with its cause. One key is a service.

import { ADDRESS_NOT_HERE, type DataPathProblem } from '../../api/data-plane.ts'
import type { Node, Service } from '../../api/objects.ts'
import { type Controller, type Decision, NOTHING, type Problem, type ReconcileContext } from '../loop/controller.ts'
import { serviceProblem } from '../loop/service-problem.ts'
import { ingressPorts } from '../store/indexes.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'

const IN_USE = 'PORT_IN_USE'
/** Nodes named in one message. */
const MAX_NODES = 5

function unserved(node: Node, ...codes: readonly string[]): readonly DataPathProblem[] {
  return (node.dataPath?.problems ?? []).filter(({ code }) => codes.includes(code))
}

export class PublishedPortsWatch implements Controller {
  readonly name = 'published ports'
  /** Services with a port that no node serves: any node may be the one that does. */
  readonly #nowhere = new Set<string>();

  *start(view: StoreView): Iterable<string | undefined> {
    this.#nowhere.clear()
    for (const node of view.list('node')) yield* servicesOf(view, node)
    for (const service of view.list('service')) if (service.problem?.source === this.name) yield service.id
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    const { old, new: next } = event
    if (event.objectKind === 'node') {
      const before = old?.kind === 'node' ? old : undefined
      const after = next?.kind === 'node' ? next : undefined
      if (before?.status.state === after?.status.state && before?.dataPath === after?.dataPath) return
      yield* this.#nowhere
      if (before) yield* servicesOf(view, before)
      if (after) yield* servicesOf(view, after)
    } else if (next?.kind === 'service') {
      const before = old?.kind === 'service' ? old : undefined
      if (before?.endpoint !== next.endpoint || (before?.problem && !next.problem)) yield event.id
    }
  }

  reconcile(view: StoreView, serviceId: string, { nowMs }: ReconcileContext): Decision {
    const service = view.get('service', serviceId)
    const problem = service && problemOf(view, service)
    if (problem?.code === ADDRESS_NOT_HERE) this.#nowhere.add(serviceId)
    else this.#nowhere.delete(serviceId)
    // What keeps a service from running is of more weight.
    if (!service || (service.problem && service.problem.source !== this.name)) return NOTHING
    const transaction = serviceProblem(service, this.name, problem, nowMs)
    return { transactions: transaction ? [transaction] : [] }
  }
}

function* servicesOf(view: StoreView, node: Node): Iterable<string> {
  for (const { subject } of unserved(node, IN_USE, ADDRESS_NOT_HERE)) {
    const [port = '', protocol = 'tcp'] = subject.split('/')
    const service = view.servicePublishing(protocol, Number(port))
    if (service) yield service.id
  }
}

function problemOf(view: StoreView, service: Service): Problem | undefined {
  const ports = new Set(ingressPorts(service).map(({ port, protocol }) => `${port}/${protocol}`))
  if (ports.size === 0) return undefined
  const nodes = view.list('node')
  const found = nodes.flatMap((node) =>
    unserved(node, IN_USE)
      .filter(({ subject }) => ports.has(subject))
      .map(({ message }) => `node ${node.description.Hostname ?? node.id}: ${message}`),
  )
  if (found.length === 0) return nowhere(nodes, ports)
  const more = found.length > MAX_NODES ? `; and ${found.length - MAX_NODES} more` : ''
  return { code: IN_USE, message: `${found.slice(0, MAX_NODES).join('; ')}${more}` }
}

/** That one node has not the address of another is as it is to be: each node says so of itself. */
function nowhere(nodes: readonly Node[], ports: ReadonlySet<string>): Problem | undefined {
  const able = nodes.filter(({ status, dataPath }) => status.state === 'ready' && dataPath !== undefined)
  const lacks = (node: Node, port: string) => unserved(node, ADDRESS_NOT_HERE).some(({ subject }) => subject === port)
  const port = able.length === 0 ? undefined : [...ports].find((one) => able.every((node) => lacks(node, one)))
  if (port === undefined) return undefined
  return {
    code: ADDRESS_NOT_HERE,
    message: `published port ${port} is served nowhere: no node that is ready has one of the addresses that it is for`,
  }
}
