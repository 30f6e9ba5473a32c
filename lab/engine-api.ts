/** The few calls that the lab makes itself to an engine's socket or to `swarmd`'s, which speaks the same API. */
import { createReadStream, existsSync, watch } from 'node:fs'
import { request } from 'node:http'
import { basename, dirname } from 'node:path'

export interface ApiAnswer {
  readonly status: number
  readonly body: string
}

export interface ApiRequest {
  readonly method?: string
  readonly path: string
  /** Sent as JSON. */
  readonly body?: unknown
  /** A tar file, sent as it is. */
  readonly tarFile?: string
  readonly signal?: AbortSignal
}

export function callApi(socketPath: string, call: ApiRequest): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath,
        method: call.method ?? 'GET',
        path: call.path,
        agent: false,
        headers: { 'content-type': call.tarFile ? 'application/x-tar' : 'application/json' },
        ...(call.signal && { signal: call.signal }),
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('error', reject)
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
      },
    )
    outgoing.on('error', reject)
    if (call.tarFile) {
      createReadStream(call.tarFile).on('error', reject).pipe(outgoing)
    } else {
      outgoing.end(call.body === undefined ? undefined : JSON.stringify(call.body))
    }
  })
}

/**
 * Resolves once `socketPath` answers `GET /_ping` with 200. The folder is watched for the socket, and an engine that
 * already listens holds the request until it can answer, so nothing polls while an engine starts.
 * Rejects when `signal` aborts, with its reason.
 */
export async function waitForApi(socketPath: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted()
    await waitForFile(socketPath, signal)
    try {
      const { status } = await callApi(socketPath, { path: '/_ping', signal })
      if (status === 200) return
    } catch {
      signal.throwIfAborted()
    }
    // a socket of before, not yet replaced, or an answer that is no yet
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function waitForFile(path: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const watcher = watch(dirname(path), { signal: undefined }, (_event, name) => {
      if (name === basename(path) && existsSync(path)) done()
    })
    const done = () => {
      watcher.close()
      signal.removeEventListener('abort', fail)
      resolve()
    }
    const fail = () => {
      watcher.close()
      reject(signal.reason)
    }
    watcher.on('error', reject)
    signal.addEventListener('abort', fail, { once: true })
    if (existsSync(path)) done() // it came before the watch
  })
}

/** Loads a `docker save` archive and answers with the engine's own words. */
export async function loadImages(socketPath: string, tarFile: string): Promise<string> {
  const answer = await callApi(socketPath, { method: 'POST', path: '/images/load?quiet=1', tarFile })
  if (answer.status !== 200 || /"errorDetail"/.test(answer.body)) {
    throw new Error(`loading ${tarFile} into ${socketPath}: ${answer.status} ${answer.body.trim()}`)
  }
  return answer.body
}
