// What the two web programs share: pages from templates, and a server that ends as a rolling update wants it to.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { hostname } from 'node:os'

/** Who answers: the stack file says it by templates, a container that was started by hand by its host name. */
export const self = {
  task: process.env.TASK || hostname(),
  node: process.env.NODE || 'this machine',
  version: process.env.VERSION || '1',
}

export const options = {
  a: process.env.OPTION_A || 'Tea',
  b: process.env.OPTION_B || 'Coffee',
}

/** A file's text with each {{name}} replaced, and what is put in made harmless. */
export function template(file) {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8')
  return (values) => text.replace(/\{\{(\w+)\}\}/g, (_, name) => escapeHtml(String(values[name])))
}

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character])

/** The address that the connection came from, as it is written for people. */
export const clientOf = (request) => (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '')

/**
 * Listens on PORT (80), answers GET /healthz itself, and hands all else to `handle`. SIGTERM ends it when every request
 * that has begun is answered; until then it goes on serving whoever still comes.
 */
export function serve(handle) {
  let stopping = false
  const server = createServer(async (request, response) => {
    if (stopping) response.setHeader('connection', 'close')
    try {
      if (request.url === '/healthz') {
        const healthy = process.env.UNHEALTHY !== '1'
        send(response, healthy ? 200 : 500, 'text/plain', healthy ? 'ok\n' : 'unhealthy\n')
      } else await handle(request, response)
    } catch (error) {
      console.error(`${request.method} ${request.url}: ${error.message}`)
      if (response.headersSent) response.destroy()
      else send(response, 503, 'text/plain', 'Sorry, that did not work just now. Please try again.\n')
    }
  })
  const port = Number(process.env.PORT || 80)
  server.listen(port, () => console.log(`${self.task} on ${self.node} listens on port ${port}`))
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => {
      stopping = true
      server.close(() => process.exit(0))
      server.emit('stopping')
    })
  }
  return server
}

export function send(response, status, type, body, headers = {}) {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store', ...headers })
  response.end(body)
}
