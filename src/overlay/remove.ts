// Takes the data plane off a machine: for a node whose swarmd is gone for good, and for what a crash has left behind.

import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, SystemClock, sleep } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { SocketLock } from '../lib/socket-lock.ts'
import { callControl } from './control-client.ts'
import { CONTROL_FILE } from './control-protocol.ts'
import { driverName, forgetInstance, instanceOf, stateLockPath } from './instance.ts'
import { Fabric } from './kernel/fabric.ts'
import { fabricConfig } from './kernel/fabric-config.ts'
import type { NetOptions } from './net-options.ts'
import { Encryption } from './wireguard/encryption.ts'

const STOP_TIMEOUT_MS = 10_000
const LOCK_TIMEOUT_MS = 3_000
const POLL_MS = 50
const DEFAULT_PORT = 4789

/** Idempotent. @param say gets a line for each thing done */
export async function removeDataPlane(options: NetOptions, say: (line: string) => void): Promise<void> {
  const clock = new SystemClock()
  const control = join(options.runDirectory, CONTROL_FILE)
  if (await stopServer(control, clock)) say('stopped swarmd-net')
  const lock = await takeLock(options.stateDirectory, clock)
  if (!lock) {
    // Its sockets and its state are not ours to remove: nobody could reach it any more, and nobody else could start.
    say('another swarmd-net has been started meanwhile: nothing is removed')
    return
  }
  try {
    await removeAll(options, control, clock, say)
  } finally {
    lock.release()
  }
}

/** While it is held, no swarmd-net starts on this state. The last one's holder ends a moment after its server. undefined: one runs. */
async function takeLock(stateDirectory: string, clock: Clock): Promise<SocketLock | undefined> {
  const deadlineMs = clock.nowMs() + LOCK_TIMEOUT_MS
  for (;;) {
    const lock = await SocketLock.take(stateLockPath(stateDirectory))
    if (lock) return lock
    if (clock.nowMs() > deadlineMs) return undefined
    await sleep(clock, POLL_MS)
  }
}

async function removeAll(
  options: NetOptions,
  control: string,
  clock: Clock,
  say: (line: string) => void,
): Promise<void> {
  const instance = (await instanceOf(options.stateDirectory)) ?? 0
  const config = fabricConfig({ instance, dataPathPort: DEFAULT_PORT })
  await Fabric.remove(config)
  say(`removed network namespace ${config.namespace}, link ${config.hostLink} and rules`)
  await Encryption.remove({ config, stateDirectory: options.stateDirectory, log: silentLog, clock })
  await rm(options.stateDirectory, { recursive: true, force: true })
  await rm(control, { force: true })
  await rm(join(options.pluginDirectory, `${driverName(instance)}.sock`), { force: true })
  await rm(options.runDirectory, { recursive: true, force: true })
  await forgetInstance(instance)
  say(`removed ${options.stateDirectory}`)
}

/** Answers whether one ran; resolves when it has ended. */
async function stopServer(control: string, clock: Clock): Promise<boolean> {
  const version = await callControl(control, 'Version', {}).catch(() => undefined)
  if (!version) return false
  await callControl(control, 'Stop', {}).catch(() => undefined)
  const deadlineMs = clock.nowMs() + STOP_TIMEOUT_MS
  while ((await isAlive(version.pid)) && clock.nowMs() < deadlineMs) await sleep(clock, POLL_MS)
  return true
}

async function isAlive(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return command !== ''
}
