/**
 * Sends a datagram and prints what comes back; exit code 1 if nothing does within two seconds. Run on the lab's client:
 *   node datagram.js ADDRESS PORT [SOURCE_PORT]
 */
import { createSocket } from 'node:dgram'

const WAIT_MS = 2_000
const [address = '', port = '', sourcePort = '0'] = process.argv.slice(2)
const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
const timer = setTimeout(() => {
  process.exitCode = 1
  socket.close()
}, WAIT_MS)
socket.on('message', (message) => {
  process.stdout.write(message)
  clearTimeout(timer)
  socket.close()
})
socket.bind(Number(sourcePort), () => socket.send('hello?', Number(port), address))
