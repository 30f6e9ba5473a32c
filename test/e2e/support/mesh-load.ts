/**
 * Sends HTTP requests at a steady rate, each on a connection of its own, to one target after the other, until its input
 * ends; then prints a LoadResult as JSON. Run on the lab's client:
 *   node mesh-load.js RATE URL...
 */
import { get } from 'node:http'
import { pathToFileURL } from 'node:url'

export interface LoadResult {
  readonly sent: number
  readonly answered: number
  /** how often each host name answered */
  readonly by: Readonly<Record<string, number>>
  readonly versions: Readonly<Record<string, number>>
  /** the first 20, with the time since the start */
  readonly failures: readonly { readonly atMs: number; readonly url: string; readonly error: string }[]
  readonly failed: number
  readonly slowestMs: number
}

const TIMEOUT_MS = 10_000

async function main(rate: number, urls: readonly string[]): Promise<void> {
  const start = performance.now()
  const by: Record<string, number> = {}
  const versions: Record<string, number> = {}
  const failures: { atMs: number; url: string; error: string }[] = []
  const pending = new Set<Promise<void>>()
  let sent = 0
  let answered = 0
  let failed = 0
  let slowestMs = 0
  const send = async (url: string): Promise<void> => {
    const began = performance.now()
    try {
      const text = await request(url)
      answered++
      const host = /hostname=(\S+)/.exec(text)?.[1] ?? '?'
      const version = /version=(\S+)/.exec(text)?.[1] ?? '?'
      by[host] = (by[host] ?? 0) + 1
      versions[version] = (versions[version] ?? 0) + 1
    } catch (error) {
      failed++
      const message = error instanceof Error ? error.message : String(error)
      if (failures.length < 20) failures.push({ atMs: Math.round(began - start), url, error: message })
    }
    slowestMs = Math.max(slowestMs, performance.now() - began)
  }
  let ended = false
  process.stdin.on('end', () => {
    ended = true
  })
  process.stdin.resume()
  while (!ended) {
    const due = Math.floor(((performance.now() - start) * rate) / 1000)
    while (sent < due) {
      const url = urls[sent % urls.length] ?? ''
      sent++
      const one = send(url).finally(() => pending.delete(one))
      pending.add(one)
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await Promise.all(pending)
  const result: LoadResult = { sent, answered, by, versions, failures, failed, slowestMs: Math.round(slowestMs) }
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

function request(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = get(url, { agent: false, timeout: TIMEOUT_MS }, (incoming) => {
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
      incoming.once('error', reject)
      incoming.once('end', () => {
        if (incoming.statusCode === 200) resolve(Buffer.concat(chunks).toString())
        else reject(new Error(`status ${incoming.statusCode}`))
      })
    })
    outgoing.once('timeout', () => outgoing.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)))
    outgoing.once('error', reject)
  })
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [rate = '', ...urls] = process.argv.slice(2)
  await main(Number(rate), urls)
}
