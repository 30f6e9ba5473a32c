/** What a client outside of the cluster sees of published ports. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Lab } from '../../../lab/lab.ts'
import type { LabHost } from '../../../lab/lab-host.ts'
import type { LoadResult } from './mesh-load.ts'

export interface Answer {
  readonly version: string
  readonly hostname: string
  readonly client: string
  readonly port: number
}

/** @throws with the text if it is no answer of a hello */
export function parseAnswer(text: string): Answer {
  const [, version = '', hostname = '', client = '', port = ''] =
    /version=(\S+) hostname=(\S+) pid=\d+ client=(\S+) port=(\d+)/.exec(text) ?? []
  if (!hostname) throw new Error(`no answer of a hello: ${JSON.stringify(text)}`)
  return { version, hostname, client, port: Number(port) }
}

const TIMEOUT_S = '5'

/** One HTTP request from the lab's client to an address of a host. @throws with curl's words if there is no answer */
export async function ask(lab: Lab, address: string, port: number): Promise<Answer> {
  const url = `http://${address}:${port}/`
  const { code, stdout, stderr } = await lab.client(['curl', '-sS', '--max-time', TIMEOUT_S, url])
  if (code !== 0) throw new Error(`${url}: ${stderr.trim() || code}`)
  return parseAnswer(stdout)
}

/** The same from a host itself. */
export async function askOn(host: LabHost, url: string): Promise<Answer> {
  const { code, stdout, stderr } = await host.exec(['curl', '-sS', '-g', '--max-time', TIMEOUT_S, url])
  if (code !== 0) throw new Error(`${url} on ${host.name}: ${stderr.trim() || code}`)
  return parseAnswer(stdout)
}

/** One datagram from the lab's client, from `sourcePort` if given. */
export async function askByDatagram(lab: Lab, address: string, port: number, sourcePort = 0): Promise<Answer> {
  const program = join(import.meta.dirname, 'datagram.js')
  const argv = [process.execPath, program, address, String(port), String(sourcePort)]
  const { stdout, stderr } = await lab.client(argv)
  if (stdout === '') throw new Error(`no datagram came back from ${address}:${port} ${stderr}`)
  return parseAnswer(stdout)
}

export interface Load {
  /** Ends it, waits for the last answers. */
  stop(): Promise<LoadResult>
}

/** Requests at `rate` a second from the client, to these URLs in turn. */
export function startLoad(lab: Lab, rate: number, urls: readonly string[]): Load {
  const program = join(import.meta.dirname, 'mesh-load.js')
  const [command = '', ...args] = lab.clientArgv([process.execPath, program, String(rate), ...urls])
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  const closed = new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => resolve())
  })
  return {
    stop: async () => {
      child.stdin.end()
      await closed
      return JSON.parse(Buffer.concat(chunks).toString()) as LoadResult
    },
  }
}
