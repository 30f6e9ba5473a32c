// Tries what it is told to from where it stands, a network namespace. TCP connections to a closed port are answered by the other
// kernel, so that nothing has to listen there; a datagram of full size that is refused has got through in one piece.

import { createSocket } from 'node:dgram'
import { connect, isIP } from 'node:net'
import type { ProbeResult, ProbeState } from '../../api/network-check.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { errorCode } from '../../lib/errors.ts'
import type { ProbeTarget } from './probe-plan.ts'

/** Before the kernel sends its first SYN again, which would hide a loss. */
const ANSWER_WITHIN_MS = 900
const BETWEEN_MS = 20
/** Who does not answer the first of them is not there. */
const SILENT_MAX = 3
const PARALLEL = 64
/** Kernels limit how often they refuse datagrams: a few in a row are answered. */
const DATAGRAMS = 3
const DATAGRAM_WITHIN_MS = 500
const HEADERS_V4 = 28
const HEADERS_V6 = 48

export async function probe(targets: readonly ProbeTarget[], clock: Clock): Promise<readonly ProbeResult[]> {
  const results: ProbeResult[] = []
  const waiting = [...targets.entries()]
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) results[next[0]] = await probeOne(next[1], clock)
  }
  await Promise.all(Array.from({ length: PARALLEL }, worker))
  return results
}

async function probeOne(target: ProbeTarget, clock: Clock): Promise<ProbeResult> {
  const { host, port, count, mtu } = target
  const times: number[] = []
  let state: ProbeState = 'silent'
  let sent = 0
  for (; sent < count && (sent < SILENT_MAX || times.length > 0); sent++) {
    if (sent > 0) await sleep(clock, BETWEEN_MS)
    const startedMs = clock.nowMs()
    const came = await connectOnce(host, port, clock)
    if (came === 'open' || came === 'refused') times.push(clock.nowMs() - startedMs)
    if (RANK.indexOf(came) < RANK.indexOf(state)) state = came
  }
  times.sort((a, b) => a - b)
  return {
    ...target.subject,
    address: target.subject.kind === 'control' ? `${isIP(host) === 6 ? `[${host}]` : host}:${port}` : host,
    state,
    sent,
    answered: times.length,
    roundTripMs: Math.round((times[times.length >> 1] ?? 0) * 1000) / 1000,
    mtu,
    mtuPasses: mtu > 0 && times.length > 0 && (await passes(host, port, mtu, clock)),
  }
}

const RANK: readonly ProbeState[] = ['open', 'refused', 'unreachable', 'silent']

function connectOnce(host: string, port: number, clock: Clock): Promise<ProbeState> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const end = (state: ProbeState) => {
      timer.cancel()
      socket.destroy()
      resolve(state)
    }
    const timer = clock.setTimer(ANSWER_WITHIN_MS, () => end('silent'))
    socket.on('connect', () => end('open'))
    socket.on('error', (error) => {
      const code = errorCode(error)
      end(
        code === 'ECONNREFUSED' || code === 'ECONNRESET' ? 'refused' : code === 'ETIMEDOUT' ? 'silent' : 'unreachable',
      )
    })
  })
}

async function passes(host: string, port: number, mtu: number, clock: Clock): Promise<boolean> {
  for (let sent = 0; sent < DATAGRAMS; sent++) if (await sendOnce(host, port, mtu, clock)) return true
  return false
}

/** Linux sends datagrams up to the MTU that it knows of with "don't fragment". */
function sendOnce(host: string, port: number, mtu: number, clock: Clock): Promise<boolean> {
  const family = isIP(host) === 6 ? 'udp6' : 'udp4'
  return new Promise((resolve) => {
    const socket = createSocket(family)
    const end = (answered: boolean) => {
      timer.cancel()
      socket.close()
      resolve(answered)
    }
    const timer = clock.setTimer(DATAGRAM_WITHIN_MS, () => end(false))
    socket.on('error', (error) => end(errorCode(error) === 'ECONNREFUSED'))
    socket.on('message', () => end(true))
    socket.connect(port, host, () => socket.send(new Uint8Array(mtu - (family === 'udp6' ? HEADERS_V6 : HEADERS_V4))))
  })
}
