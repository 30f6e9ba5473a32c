// The program of the images hello:*. Tells who answered whom; PORT, VERSION and UNHEALTHY=1 are its environment.
const { createServer } = require('node:http')
const { hostname } = require('node:os')

const version = process.env.VERSION || 'unknown'
const healthy = process.env.UNHEALTHY !== '1'

const server = createServer((request, response) => {
  if (request.url === '/healthz') {
    response.writeHead(healthy ? 200 : 500, { 'content-type': 'text/plain' }).end(healthy ? 'ok\n' : 'unhealthy\n')
    return
  }
  const client = (request.socket.remoteAddress || '').replace(/^::ffff:/, '')
  response
    .writeHead(200, { 'content-type': 'text/plain' })
    .end(`hello version=${version} hostname=${hostname()} pid=${process.pid} client=${client}\n`)
})

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
server.listen(Number(process.env.PORT || 8080))
