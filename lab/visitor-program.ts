/**
 * Visitors of the voting app, as lab/visitors.ts starts them on the client: each opens the page at the next of some
 * addresses, and votes. Every request has a connection of its own. For each line on stdin, what was seen since the last
 * one is a line on stdout; the end of stdin is its end.
 *   visitor-program.js VISITORS_PER_SECOND URL...
 */
import { request } from 'node:http'
import { createInterface } from 'node:readline'
import type { Visits } from './visitors.ts'

/** A slow answer on a busy machine is an answer; one that is lost never comes. */
const ANSWER_MS = 30_000
const CHOICES = ['a', 'b', 'a']

const [rate = '1', ...urls] = process.argv.slice(2)
let visits = none()
let number = 0
const open = new Set<Promise<void>>()

function none(): { -readonly [K in keyof Visits]: Visits[K] } & {
  versions: Record<string, number>
  failures: string[]
} {
  return { visitors: 0, votes: 0, versions: {}, clients: [], failed: 0, failures: [] }
}

const timer = setInterval(() => {
  const visit = come(number++).finally(() => open.delete(visit))
  open.add(visit)
}, 1_000 / Number(rate))

for await (const line of createInterface(process.stdin)) {
  // "all": those that are there finish first
  if (line === 'all') {
    clearInterval(timer)
    await Promise.all(open)
  }
  process.stdout.write(`${JSON.stringify(visits)}\n`)
  visits = none()
}
clearInterval(timer)

async function come(index: number): Promise<void> {
  const url = urls[index % urls.length] ?? ''
  visits.visitors++
  try {
    const page = await ask(url)
    if (page.status !== 200) throw new Error(`the page: ${page.status}`)
    const version = /id="version">([^<]*)/.exec(page.body)?.[1] ?? 'none'
    const client = /id="client">([^<]*)/.exec(page.body)?.[1] ?? 'none'
    visits.versions[version] = (visits.versions[version] ?? 0) + 1
    if (!visits.clients.includes(client)) visits.clients = [...visits.clients, client]
    const thanks = await ask(url, `vote=${CHOICES[index % CHOICES.length]}`)
    if (thanks.status !== 303) throw new Error(`the vote: ${thanks.status}`)
    visits.votes++
  } catch (error) {
    visits.failed++
    const told = `${new Date().toISOString()} ${url}: ${error instanceof Error ? error.message : String(error)}`
    if (visits.failures.length < 5) visits.failures.push(told)
  }
}

function ask(url: string, body?: string): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      method: body === undefined ? 'GET' : 'POST',
      agent: false,
      timeout: ANSWER_MS,
    })
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
      incoming.on('error', reject)
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
    })
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${ANSWER_MS} ms`)))
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}
