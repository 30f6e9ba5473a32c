/** Runs tools of this machine in hosts' and containers' network namespaces, and reads what they measured. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { callApi } from '../lab/engine-api.ts'
import type { LabHost } from '../lab/lab-host.ts'
import { inNetns } from '../lab/network.ts'
import { must } from '../lab/run.ts'

/** The start of a command line that runs in a network namespace. */
export type Place = readonly string[]

export const onHost = (host: LabHost): Place => inNetns(host.plan.netns)

/** In the network namespace of a container, as it is seen from this machine. */
export async function inContainer(host: LabHost, containerId: string): Promise<Place> {
  const answer = await callApi(host.paths.engineSocket, { path: `/containers/${containerId}/json` })
  const shown = JSON.parse(answer.body) as { NetworkSettings: { SandboxKey: string } }
  const path = shown.NetworkSettings.SandboxKey.replace(/^\/var\/run\//, '/run/')
  return ['nsenter', `--net=/proc/${host.process('init')?.pid}/root${path}`, '--']
}

const program = join(import.meta.dirname, 'traffic-program.js')
/** Client and server on fixed cores, so that a figure does not depend on where the kernel puts them. */
const SERVER_CORE = '0'
const CLIENT_CORE = '1'

async function client<T>(place: Place, ...args: readonly string[]): Promise<T> {
  return JSON.parse(await must([...place, 'taskset', '-c', CLIENT_CORE, process.execPath, program, ...args])) as T
}

export interface EchoServer {
  readonly stop: () => Promise<void>
}

export async function startEcho(place: Place, port: number): Promise<EchoServer> {
  const [command = '', ...args] = [
    ...place,
    'taskset',
    '-c',
    SERVER_CORE,
    process.execPath,
    program,
    'serve',
    `${port}`,
  ]
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return {
    stop: async () => {
      child.stdin.end()
      await once(child, 'exit')
    },
  }
}

export function roundTrips(place: Place, host: string, port: number, ms: number) {
  return client<{ readonly p50Us: number; readonly p99Us: number }>(place, 'rtt', host, `${port}`, `${ms}`)
}

export async function connectionsPerSecond(place: Place, host: string, port: number, ms: number): Promise<number> {
  const { perSecond, failed } = await client<{ readonly perSecond: number; readonly failed: number }>(
    place,
    ...['connect', host, `${port}`, `${ms}`, '16'],
  )
  if (failed > 0) throw new Error(`${failed} connections to ${host}:${port} failed`)
  return perSecond
}

interface Iperf {
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number }
    readonly sum?: { readonly packets: number; readonly lost_packets: number; readonly seconds: number }
  }
  readonly error?: string
}

async function iperf(from: Place, to: Place, address: string, port: number, args: readonly string[]): Promise<Iperf> {
  const [command = '', ...rest] = [...to, 'iperf3', '-s', '-1', '--forceflush', '-p', `${port}`]
  const server = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(server, 'exit')
  await once(server.stdout, 'data')
  server.stdout.resume()
  try {
    const said = await must([...from, 'iperf3', '-c', address, '-p', `${port}`, '-J', ...args])
    return JSON.parse(said) as Iperf
  } finally {
    if (server.exitCode === null) setTimeout(() => server.kill(), 2000).unref()
    await ended
  }
}

/** TCP, received. */
export async function gigabits(
  from: Place,
  to: Place,
  address: string,
  { port, streams, seconds }: { readonly port: number; readonly streams: number; readonly seconds: number },
): Promise<number> {
  const { end } = await iperf(from, to, address, port, ['-t', `${seconds}`, '-O', '0.5', '-P', `${streams}`])
  return (end.sum_received?.bits_per_second ?? 0) / 1e9
}

/** UDP packets of 64 bytes a second that arrive. */
export async function datagramsPerSecond(
  from: Place,
  to: Place,
  address: string,
  { port, seconds }: { readonly port: number; readonly seconds: number },
): Promise<number> {
  const { end } = await iperf(from, to, address, port, ['-u', '-b', '0', '-l', '64', '-t', `${seconds}`])
  const { packets = 0, lost_packets: lost = 0, seconds: took = seconds } = end.sum ?? {}
  return (packets - lost) / took
}

/** Wall time in milliseconds at which something answered first: at a port, or for a name. */
export async function firstAnswer(place: Place, host: string, port: number, withinMs: number): Promise<number> {
  return (await client<{ readonly atMs: number }>(place, 'first', host, `${port}`, `${withinMs}`)).atMs
}

export async function firstName(place: Place, server: string, name: string, withinMs: number): Promise<number> {
  return (await client<{ readonly atMs: number }>(place, 'name', server, name, `${withinMs}`)).atMs
}
