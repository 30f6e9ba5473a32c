// Starts swarmd-net where nobody (systemd, an earlier swarmd) has: as a process of its own that outlives this one. Says what this
// machine lacks for a data plane.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { access, constants, mkdir, open, readFile, stat, truncate } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CodedError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'

export interface NetProcessOptions {
  readonly stateDirectory: string
  readonly runDirectory: string
  readonly log: Log
}

const TOOLS = ['ip', 'bridge', 'nft', 'nsenter', 'conntrack', 'ss'] as const
const PACKAGES: Readonly<Record<(typeof TOOLS)[number], string>> = {
  ip: 'iproute2',
  bridge: 'iproute2',
  ss: 'iproute2',
  nft: 'nftables',
  nsenter: 'util-linux',
  conntrack: 'conntrack',
}
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin']
const LOG_BYTES_MAX = 16 * 1024 * 1024

/** The swarmd-net that belongs to this swarmd: beside it in a bundle, in its folder otherwise. */
export function netProgram(): string {
  const bundled = fileURLToPath(new URL('./swarmd-net.mjs', import.meta.url))
  return existsSync(bundled) ? bundled : fileURLToPath(new URL('../overlay/main.js', import.meta.url))
}

/** @throws {CodedError} DATA_PLANE_UNAVAILABLE */
export async function startNetProcess(options: NetProcessOptions): Promise<void> {
  const path = searchPath()
  const lacking = await whatIsLacking(path)
  if (lacking) throw new CodedError('DATA_PLANE_UNAVAILABLE', `overlay networks do not work on this node: ${lacking}`)
  await mkdir(options.runDirectory, { recursive: true, mode: 0o711 })
  const logPath = join(options.runDirectory, 'swarmd-net.log')
  if (((await stat(logPath).catch(() => undefined))?.size ?? 0) > LOG_BYTES_MAX) await truncate(logPath)
  const logFile = await open(logPath, 'a', 0o600)
  try {
    const child = spawn(
      process.execPath,
      [netProgram(), 'start', `--state-dir=${options.stateDirectory}`, `--run-dir=${options.runDirectory}`],
      { detached: true, cwd: '/', stdio: ['ignore', logFile.fd, logFile.fd], env: { ...process.env, PATH: path } },
    )
    child.on('error', (error) => options.log.error({ reason: error.message }, 'swarmd-net cannot be started'))
    child.on('exit', (code, signal) => options.log.warn({ code, signal, log: logPath }, 'swarmd-net has ended'))
    child.unref()
    options.log.info({ pid: child.pid, log: logPath }, 'swarmd-net started')
  } finally {
    await logFile.close()
  }
}

/** Everything of a swarmd-net that has ended: namespace, links, rules, state, its log. Errors are logged. */
export async function removeNetProcess({ stateDirectory, runDirectory, log }: NetProcessOptions): Promise<void> {
  const child = spawn(
    process.execPath,
    [netProgram(), 'remove', `--state-dir=${stateDirectory}`, `--run-dir=${runDirectory}`],
    { cwd: '/', stdio: 'ignore', env: { ...process.env, PATH: searchPath() } },
  )
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(null))
    child.once('exit', resolve)
  })
  if (code !== 0)
    log.warn({ code }, 'what swarmd-net has left behind is still there: "swarmd-net remove" takes it away')
}

/** A shell of `su`, or systemd, may lack the folders of the administrator's programs. */
function searchPath(): string {
  const given = (process.env.PATH ?? '/usr/bin:/bin').split(delimiter)
  return [...given, ...SYSTEM_FOLDERS.filter((folder) => !given.includes(folder))].join(delimiter)
}

async function whatIsLacking(path: string): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'swarmd does not run as root'
  const missing = await missingCapability()
  if (missing) return `swarmd runs without the capability ${missing}`
  const folders = path.split(delimiter)
  for (const tool of TOOLS) {
    const found = await Promise.all(folders.map((folder) => isProgram(join(folder, tool))))
    if (!found.includes(true)) return `the program ${tool} is not installed (package ${PACKAGES[tool]})`
  }
  if (!existsSync('/proc/sys/net/netfilter') && !existsSync('/sys/module/nf_tables')) {
    return 'the kernel has no netfilter'
  }
  return undefined
}

/** Numbers of the kernel's. */
const CAPABILITIES = [
  ['CAP_NET_ADMIN', 12n],
  ['CAP_SYS_ADMIN', 21n],
] as const

/** As root in a container. */
async function missingCapability(): Promise<string | undefined> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '')
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  if (!effective) return undefined
  return CAPABILITIES.find(([, bit]) => ((BigInt(`0x${effective}`) >> bit) & 1n) === 0n)?.[0]
}

function isProgram(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
