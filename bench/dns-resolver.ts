/**
 * The resolver by itself on loopback, with 1,000 services of 10 tasks each, for 127.0.0.1 as its only container. Says its port, and
 * ends with its standard input. With an argument, so many tasks a second start or cease to serve.
 *   node dns-resolver.js [CHANGES]
 */
import dgram from 'node:dgram'
import { once } from 'node:events'
import type { DataPlaneRecord, OverlayEndpoint } from '../src/api/data-plane.ts'
import { SystemClock } from '../src/lib/clock.ts'
import { silentLog } from '../src/lib/log.ts'
import { SystemRandom } from '../src/lib/random.ts'
import { DesiredStore } from '../src/overlay/desired-state.ts'
import { DnsServer } from '../src/overlay/dns/dns-server.ts'

const SERVICES = 1000
const TASKS = 10
const networkId = 'net'

const address = (service: number, host: number): string => `10.${1 + (service >> 8)}.${service & 255}.${host}`

function taskOf(service: number, slot: number, serving = true): OverlayEndpoint {
  const id = `s${service}t${slot}`
  return {
    taskId: id,
    networkId,
    nodeNumber: 1,
    addresses: [address(service, 10 + slot)],
    serviceId: `s${service}`,
    serviceName: `svc${service}`,
    slot,
    name: `svc${service}.${slot}.${id}`,
    hostname: '',
    aliases: [],
    serving,
    encrypted: false,
  }
}

const store = new DesiredStore()
const set: DataPlaneRecord[] = Array.from({ length: SERVICES }, (_, service) => [
  {
    kind: 'overlay-service' as const,
    service: {
      serviceId: `s${service}`,
      networkId,
      name: `svc${service}`,
      aliases: [],
      virtualIps: [address(service, 2)],
      ports: [],
      affinity: false,
    },
  },
  ...Array.from({ length: TASKS }, (_, at) => ({ kind: 'end-point' as const, endpoint: taskOf(service, at + 1) })),
]).flat()
store.apply({ self: undefined, revision: 1, complete: true, set, removed: [] })

const udp = dgram.createSocket('udp4')
udp.bind(0, '127.0.0.1')
await once(udp, 'listening')
const startedMs = performance.now()
const server = new DnsServer({
  udp: [udp],
  tcp: [],
  state: () => store.state,
  locals: () => [{ endpointId: 'e', engineNetworkId: 'n', networkId, mac: '', addresses: ['127.0.0.1'] }],
  hostNameServers: () => [],
  clock: new SystemClock(),
  random: new SystemRandom(),
  log: silentLog,
})
process.stdout.write(`${JSON.stringify({ port: udp.address().port, loadMs: performance.now() - startedMs })}\n`)
process.stdin.resume().on('end', () => process.exit())

const changes = Number(process.argv[2] ?? 0)
let count = 0
if (changes > 0) {
  setInterval(() => {
    const service = count % SERVICES
    const endpoint = taskOf(service, 1, Math.floor(count / SERVICES) % 2 === 1)
    count++
    const change = { self: undefined, revision: 1, complete: false, removed: [] } as const
    server.changed(store.apply({ ...change, set: [{ kind: 'end-point', endpoint }] }))
  }, 1000 / changes)
}
