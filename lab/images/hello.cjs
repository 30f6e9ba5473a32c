// The program of the images hello:*. Tells who answered whom, over HTTP and, to any datagram, over UDP; PORT, VERSION and
// UNHEALTHY=1 are its environment.
const { createSocket } = require('node:dgram')
const { createServer } = require('node:http')
const { hostname } = require('node:os')

const version = process.env.VERSION || 'unknown'
const healthy = process.env.UNHEALTHY !== '1'
const port = Number(process.env.PORT || 8080)

function answer(address, clientPort) {
  const client = (address || '').replace(/^::ffff:/, '')
  return `hello version=${version} hostname=${hostname()} pid=${process.pid} client=${client} port=${clientPort}\n`
}

const server = createServer((request, response) => {
  if (request.url === '/healthz') {
    response.writeHead(healthy ? 200 : 500, { 'content-type': 'text/plain' }).end(healthy ? 'ok\n' : 'unhealthy\n')
    return
  }
  const { remoteAddress, remotePort } = request.socket
  response.writeHead(200, { 'content-type': 'text/plain' }).end(answer(remoteAddress, remotePort))
})

const datagrams = createSocket('udp6')
datagrams.on('message', (_, { address, port: clientPort }) => {
  datagrams.send(answer(address, clientPort), clientPort, address)
})
// a host without IPv6: HTTP goes on alone
datagrams.on('error', () => datagrams.close())
datagrams.bind(port)

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
server.listen(port)
