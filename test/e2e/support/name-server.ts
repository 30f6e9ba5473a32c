/**
 * A name server outside of the cluster, for tests: `node name-server.js LISTEN ADDRESS` answers A questions for names below
 * `.test` with ADDRESS, over both transports, and that there is nothing else. Says `ready` when it listens, and ends with its standard input.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import dnsPacket from 'dns-packet'

const PORT = 53
const NXDOMAIN = 3

const [listen = '', address = ''] = process.argv.slice(2)

function answer(message: Buffer): Buffer {
  const { id = 0, questions = [] } = dnsPacket.decode(message)
  const [question] = questions
  const known = question?.name.endsWith('.test') === true
  return dnsPacket.encode({
    type: 'response',
    id,
    flags: dnsPacket.RECURSION_AVAILABLE | (known ? 0 : NXDOMAIN),
    questions,
    answers: known && question.type === 'A' ? [{ type: 'A', name: question.name, ttl: 1, data: address }] : [],
  })
}

const udp = createSocket('udp4')
udp.on('message', (message, from) => udp.send(answer(message), from.port, from.address))
udp.bind(PORT, listen)
const tcp = createServer((socket) => {
  socket.on('error', () => {})
  socket.on('data', (data) => {
    const reply = answer(data.subarray(2))
    socket.write(Buffer.concat([Buffer.of(reply.length >> 8, reply.length & 255), reply]))
  })
})
tcp.listen(PORT, listen)
await Promise.all([once(udp, 'listening'), once(tcp, 'listening')])
process.stdin.resume().on('end', () => process.exit())
process.stdout.write('ready\n')
