// Tells of services whose published ports some nodes can't serve, because the host has them in use already. The services run
// on, and the other nodes serve them: it is a note on the service, which goes with its cause. One key is a service.

import type { Node, Service } from '../../api/objects.ts'
import { type Controller, type Decision, NOTHING, type Problem, type ReconcileContext } from '../loop/controller.ts'
import { serviceProblem } from '../loop/service-problem.ts'
import { ingressPorts } from '../store/indexes.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'

const CODE = 'PORT_IN_USE'
/** Nodes named in one message. */
const MAX_NODES = 5

function portsInUse(node: Node): readonly { readonly subject: string; readonly message: string }[] {
  return (node.dataPath?.problems ?? []).filter(({ code }) => code === CODE)
}

export class PublishedPortsWatch implements Controller {
  readonly name = 'published ports';

  *start(view: StoreView): Iterable<string | undefined> {
    for (const node of view.list('node')) yield* servicesOf(view, node)
    for (const service of view.list('service')) if (service.problem?.source === this.name) yield service.id
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    const { old, new: next } = event
    if (event.objectKind === 'node') {
      const before = old?.kind === 'node' ? old : undefined
      const after = next?.kind === 'node' ? next : undefined
      if (before?.dataPath === after?.dataPath) return
      if (before) yield* servicesOf(view, before)
      if (after) yield* servicesOf(view, after)
    } else if (next?.kind === 'service') {
      const before = old?.kind === 'service' ? old : undefined
      if (before?.endpoint !== next.endpoint || (before?.problem && !next.problem)) yield event.id
    }
  }

  reconcile(view: StoreView, serviceId: string, { nowMs }: ReconcileContext): Decision {
    const service = view.get('service', serviceId)
    // What keeps a service from running is of more weight.
    if (!service || (service.problem && service.problem.source !== this.name)) return NOTHING
    const transaction = serviceProblem(service, this.name, problemOf(view, service), nowMs)
    return { transactions: transaction ? [transaction] : [] }
  }
}

function* servicesOf(view: StoreView, node: Node): Iterable<string> {
  for (const { subject } of portsInUse(node)) {
    const [port = '', protocol = 'tcp'] = subject.split('/')
    const service = view.servicePublishing(protocol, Number(port))
    if (service) yield service.id
  }
}

function problemOf(view: StoreView, service: Service): Problem | undefined {
  const ports = new Set(ingressPorts(service).map(({ port, protocol }) => `${port}/${protocol}`))
  if (ports.size === 0) return undefined
  const found = view.list('node').flatMap((node) =>
    portsInUse(node)
      .filter(({ subject }) => ports.has(subject))
      .map(({ message }) => `node ${node.description.Hostname ?? node.id}: ${message}`),
  )
  if (found.length === 0) return undefined
  const more = found.length > MAX_NODES ? `; and ${found.length - MAX_NODES} more` : ''
  return { code: CODE, message: `${found.slice(0, MAX_NODES).join('; ')}${more}` }
}
