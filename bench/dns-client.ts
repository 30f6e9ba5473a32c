/**
 * Asks a name server one question after the other, reads every answer, and says how long they took. A process of its own, to be
 * started in a container's network namespace.
 *   node dns-client.js SERVER COUNT NAME ADDRESS... > result.json
 */
import dgram from 'node:dgram'
import { once } from 'node:events'
import dnsPacket from 'dns-packet'

export interface DnsClientResult {
  readonly p50Us: number
  readonly p99Us: number
  /** Answers other than just these addresses. */
  readonly wrong: number
}

const SILENCE_MS = 5000

const [server = '', count = '', name = '', ...addresses] = process.argv.slice(2)
const expected = addresses.toSorted().join()

const socket = dgram.createSocket('udp4')
socket.connect(53, server)
await once(socket, 'connect')

const packet = dnsPacket.encode({
  type: 'query',
  id: 0,
  flags: dnsPacket.RECURSION_DESIRED,
  questions: [{ name, type: 'A', class: 'IN' }],
})
const tookUs: number[] = []
let wrong = 0
for (let id = 0; id < Number(count); id++) {
  packet.writeUInt16BE(id & 0xffff, 0)
  const answered = once(socket, 'message', { signal: AbortSignal.timeout(SILENCE_MS) })
  const startedNs = process.hrtime.bigint()
  socket.send(packet)
  const [message] = (await answered) as [Buffer]
  tookUs.push(Number(process.hrtime.bigint() - startedNs) / 1000)
  const reply = dnsPacket.decode(message)
  const data = (reply.answers ?? []).map((answer) => String((answer as { data: unknown }).data))
  if (reply.id !== (id & 0xffff) || data.toSorted().join() !== expected) wrong++
}
socket.close()
tookUs.sort((a, b) => a - b)
const at = (part: number): number => tookUs[Math.floor(tookUs.length * part)] ?? 0
const result: DnsClientResult = { p50Us: at(0.5), p99Us: at(0.99), wrong }
process.stdout.write(`${JSON.stringify(result)}\n`)
