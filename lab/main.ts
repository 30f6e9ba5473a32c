/** The command line of the lab. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { isImageSet, tagsOf } from './images.ts'
import { Lab } from './lab.ts'
import { type LabHost, swarmdProgram, type Target } from './lab-host.ts'
import { DEFAULT_LAB_NAME, defaultLabDir, projectRoot } from './layout.ts'
import { readState, stateFile } from './state.ts'

const USAGE = `Several hosts on one machine, each with its own network namespace, Docker Engine and swarmd

usage: node build/lab/main.js COMMAND [options]

  up                       bring a lab up (3 managers, 2 workers) and leave it running
  down                     remove it, also what an interrupted "up" left
  status                   show the hosts, their processes and what is cut
  exec HOST COMMAND...     run a command on a host, or on "client", a machine beside them
  docker HOST ARGS...      run docker against the host's engine
  swarmctl HOST ARGS...    run swarmctl against the host's swarmd
  kill HOST [swarmd|engine|power]      SIGKILL; "power" is the loss of the whole host
  restart HOST [swarmd|engine|power]   stop it cleanly (power: lose it), and start it again; also starts what is dead
  pause | resume HOST [swarmd|engine]  SIGSTOP, SIGCONT
  cut HOST [HOST]          pull a host's cable, or part two hosts (--one-way: only first to second)
  heal [HOST [HOST]]       undo a cut; without a host, all of them
  images [SET]             build images and load them into every engine: base, or voting-app

options, before or after the command, but before HOST where arguments follow it:
  --name NAME              names the lab; default "${DEFAULT_LAB_NAME}"
  --dir DIR                where it lies; default .lab, or .lab-NAME
  --managers N --workers N numbers of hosts (up)
  --no-swarmd              engines only (up)
  --no-images              load no images (up)
  --live-restore           engines keep containers running while they restart (up)
  --engine HOST=RELEASE    the engine of another Debian release on this host: --engine n2=sid; repeatable (up)
  --one-way                (cut, heal)
`

const OPTIONS = {
  name: { type: 'string' },
  dir: { type: 'string' },
  managers: { type: 'string' },
  workers: { type: 'string' },
  'no-swarmd': { type: 'boolean' },
  'no-images': { type: 'boolean' },
  'live-restore': { type: 'boolean' },
  engine: { type: 'string', multiple: true },
  'one-way': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

const RAW_COMMANDS = ['exec', 'docker', 'swarmctl']
const say = (line: string): void => void process.stdout.write(`${line}\n`)

process.stdout.on('error', () => {}) // "| head" is no reason to stop halfway
try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`lab: ${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 1
}

async function main(argv: readonly string[]): Promise<number> {
  // what follows "exec HOST" belongs to the command there
  const at = argv.findIndex((word) => RAW_COMMANDS.includes(word))
  let hostAt = at < 0 ? argv.length : at + 1
  while (argv[hostAt]?.startsWith('--')) hostAt += argv[hostAt]?.includes('=') ? 1 : 2
  const { values, positionals } = parseArgs({
    args: argv.slice(0, hostAt + 1),
    options: OPTIONS,
    allowPositionals: true,
  })
  const [command, ...words] = positionals
  const rest = argv.slice(hostAt + 1).filter((word, index) => index > 0 || word !== '--')
  const name = values.name ?? DEFAULT_LAB_NAME
  const dir = resolve(values.dir ?? defaultLabDir(name))
  const attach = () => Lab.attach({ dir })
  if (values.help || command === undefined || command === 'help') {
    say(USAGE.trimEnd())
    return values.help || command ? 0 : 2
  }
  switch (command) {
    case 'up':
      return up(name, dir, values)
    case 'down':
      await Lab.down({ name, dir })
      return 0
    case 'status':
      return status(attach())
    case 'exec':
    case 'docker':
    case 'swarmctl':
      return execOn(attach(), command, need(words[0], 'HOST'), rest)
    case 'kill':
      await kill(attach().host(need(words[0], 'HOST')), words[1] ?? 'swarmd')
      return 0
    case 'restart':
      await restart(attach().host(need(words[0], 'HOST')), words[1] ?? 'swarmd')
      return 0
    case 'pause':
    case 'resume':
      attach()
        .host(need(words[0], 'HOST'))
        [command](target(words[1] ?? 'swarmd'))
      return 0
    case 'cut':
      await attach().cut(need(words[0], 'HOST'), words[1], { oneWay: values['one-way'] ?? false })
      return 0
    case 'heal':
      await attach().heal(words[0], words[1], { oneWay: values['one-way'] ?? false })
      return 0
    case 'images':
      return images(attach(), words[0] ?? 'base')
    default:
      throw new Error(`"${command}" is no command of the lab; "help" shows them`)
  }
}

interface UpFlags {
  readonly managers?: string | undefined
  readonly workers?: string | undefined
  readonly 'no-swarmd'?: boolean | undefined
  readonly 'no-images'?: boolean | undefined
  readonly 'live-restore'?: boolean | undefined
  readonly engine?: readonly string[] | undefined
}

async function up(name: string, dir: string, flags: UpFlags): Promise<number> {
  if (readState(dir)?.name === name) {
    const lab = Lab.attach({ dir })
    if (lab.hosts.every((host) => host.process('init') && host.process('engine'))) {
      say(`the lab "${name}" is up already; "down" removes it`)
      printUse(lab)
      return 0
    }
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      say(`${signal}: taking down what is up`)
      void Lab.down({ name, dir }).finally(() => process.exit(130))
    })
  }
  const started = process.hrtime.bigint()
  const lab = await Lab.up({
    name,
    dir,
    managers: count(flags.managers ?? '3', '--managers'),
    workers: count(flags.workers ?? '2', '--workers'),
    liveRestore: flags['live-restore'] ?? false,
    engines: Object.fromEntries((flags.engine ?? []).map(hostAndRelease)),
    ...(flags['no-images'] && { images: false as const }),
    ...(flags['no-swarmd'] && { swarmd: false as const }),
    log: say,
  })
  say(`up after ${(Number(process.hrtime.bigint() - started) / 1e9).toFixed(1)} s`)
  printUse(lab)
  return 0
}

function printUse(lab: Lab): void {
  const [first] = lab.hosts
  if (!first) return
  const swarmd = first.process('swarmd') !== undefined
  const socket = swarmd ? first.paths.swarmdSocket : first.paths.engineSocket
  const flags = lab.dir === defaultLabDir(DEFAULT_LAB_NAME) ? '' : ` --name ${lab.name} --dir ${lab.dir}`
  const lines = [
    '',
    ...lab.hosts.map((host) => `  ${host.name}  ${host.address}  ${host.role}  ${host.plan.netns}`),
    '',
    swarmd
      ? `speak to the first manager's swarmd:`
      : existsSync(swarmdProgram)
        ? 'swarmd was not started; speak to the first engine:'
        : `swarmd is not built (make build); speak to the first engine:`,
    `  export DOCKER_HOST=unix://${socket}`,
    ...(swarmd ? [`  ${join(projectRoot, 'dist/swarmctl.mjs')} swarm init`] : []),
    '  docker info',
    'from a machine beside the hosts:',
    `  node build/lab/main.js exec${flags} client curl http://${first.address}:8080/`,
    'all paths and pids:',
    `  ${stateFile(lab.dir)}`,
  ]
  for (const line of lines) say(line)
}

async function status(lab: Lab): Promise<number> {
  const rows = [['HOST', 'ROLE', 'ADDRESS', 'NETWORK NAMESPACE', 'POWER', 'ENGINE', 'SWARMD']]
  for (const host of lab.hosts) {
    const pid = (name: 'init' | Target) => String(host.process(name)?.pid ?? '-')
    rows.push([host.name, host.role, host.address, host.plan.netns, pid('init'), pid('engine'), pid('swarmd')])
  }
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  for (const row of rows)
    say(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('   ')
        .trimEnd(),
    )
  const cuts = await lab.cuts()
  if (cuts.length > 0) say(`cut: ${cuts.join(' ')}`)
  return 0
}

function execOn(lab: Lab, command: string, name: string, args: readonly string[]): Promise<number> {
  if (name === 'client') {
    if (command !== 'exec') throw new Error('the client has neither engine nor swarmd')
    return interactive(lab.clientArgv(args))
  }
  const host = lab.host(name)
  if (command === 'exec') return interactive(host.execArgv(args))
  if (command === 'docker') return interactive(['docker', ...args], host.clientEnv('engine'))
  return interactive([process.execPath, join(projectRoot, 'dist/swarmctl.mjs'), ...args], host.clientEnv('swarmd'))
}

/** Hands over this terminal. */
function interactive(argv: readonly string[], env?: NodeJS.ProcessEnv): Promise<number> {
  const [program = '', ...args] = argv
  return new Promise((done, fail) => {
    const child = spawn(program, args, { stdio: 'inherit', ...(env && { env }) })
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => child.kill(name))
    child.once('error', fail)
    child.once('exit', (code) => done(code ?? 128))
  })
}

async function images(lab: Lab, set: string): Promise<number> {
  if (!isImageSet(set)) throw new Error(`"${set}" is no set of images: base or voting-app`)
  await lab.loadImages(set)
  say(tagsOf(set).join('\n'))
  return 0
}

async function kill(host: LabHost, what: string): Promise<void> {
  if (what === 'power') return host.powerOff()
  if (target(what) === 'engine') return host.killEngine()
  return host.killSwarmd()
}

async function restart(host: LabHost, what: string): Promise<void> {
  if (what === 'power') {
    await host.powerOff()
    return host.boot()
  }
  if (target(what) === 'engine') return host.restartEngine()
  return host.restartSwarmd()
}

function target(word: string): Target {
  if (word === 'engine' || word === 'swarmd') return word
  throw new Error(`"${word}" is not a process of a host: swarmd or engine`)
}

function need(word: string | undefined, what: string): string {
  if (word === undefined) throw new Error(`${what} is missing; "help" shows the commands`)
  return word
}

function hostAndRelease(text: string): readonly [string, string] {
  const [, host, release] = /^(n\d{1,2})=([a-z]+)$/.exec(text) ?? []
  if (!host || !release) throw new Error(`--engine takes a host and a release, as n2=sid, not "${text}"`)
  return [host, release]
}

function count(text: string, flag: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new Error(`${flag} takes a number from 0 to 99, not "${text}"`)
  return Number(text)
}
