// The page with the counts. It is told by PostgreSQL when a vote arrives, and tells every browser that has it open.
import { readFileSync } from 'node:fs'
import { Postgres } from './postgres.mjs'
import { VOTES } from './table.mjs'
import { clientOf, options, self, send, serve, template } from './web.mjs'

/** How often the database is asked without having told of anything: so a connection that is dead in silence is noticed. */
const ASK_MS = 2_000

const page = template('result.html')
const browsers = new Set()
let counts = { a: 0, b: 0, live: false }

const db = new Postgres({
  host: process.env.DB_HOST || 'db',
  password: readFileSync(process.env.DB_PASSWORD_FILE || '/run/secrets/db-password', 'utf8').trim(),
  onNotify: () => void refresh(),
})

const server = serve((request, response) => {
  switch (new URL(request.url, 'http://result').pathname) {
    case '/':
      return send(response, 200, 'text/html', page({ ...shown(), client: clientOf(request), ...self }))
    case '/counts':
      return send(response, 200, 'application/json', `${JSON.stringify(shown())}\n`)
    case '/live':
      return watch(request, response)
    default:
      return send(response, 404, 'text/plain', 'There is nothing here.\n')
  }
})
server.on('stopping', () => {
  // they come back by themselves, and to another task
  for (const browser of browsers) browser.end()
})
server.on('close', () => db.close())

/** Server-sent events: the counts now, and at each change. */
function watch(request, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  response.write(`retry: 500\ndata: ${JSON.stringify(shown())}\n\n`)
  browsers.add(response)
  request.on('close', () => browsers.delete(response))
}

function shown() {
  const { a, b, live } = counts
  const total = a + b
  const percentA = Math.round((100 * a) / Math.max(1, total))
  return {
    optionA: options.a,
    optionB: options.b,
    a,
    b,
    total: total === 1 ? '1 vote' : `${total} votes`,
    percentA,
    percentB: total === 0 ? 0 : 100 - percentA,
    state: live ? 'Live' : 'Waiting for the database',
  }
}

let refreshing = false
let again = false

/** Asks the database. While it is being asked, any number of calls are one. */
async function refresh() {
  if (refreshing) {
    again = true
    return
  }
  refreshing = true
  const before = JSON.stringify(counts)
  try {
    if (!db.connected) {
      await db.query(VOTES)
      await db.query('LISTEN votes')
    }
    const rows = await db.query('SELECT choice, count(*) FROM votes GROUP BY choice')
    const count = (choice) => Number(rows.find((row) => row[0] === choice)?.[1] ?? 0)
    counts = { a: count('a'), b: count('b'), live: true }
  } catch (error) {
    if (counts.live) console.error(`the database does not answer: ${error.message}`)
    counts = { ...counts, live: false }
  }
  if (JSON.stringify(counts) !== before) {
    for (const browser of browsers) browser.write(`data: ${JSON.stringify(shown())}\n\n`)
  }
  refreshing = false
  if (again) {
    again = false
    void refresh()
  }
}

setInterval(refresh, ASK_MS)
void refresh()
