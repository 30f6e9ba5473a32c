// Records the commands and flags of a docker CLI, as its help pages tell them:
// `node build/test/conformance/record-commands.js /usr/local/bin/docker > test/conformance/docker-commands-28.2.2.json`.

import { spawnSync } from 'node:child_process'

/** Short form, kind of value and help of each flag. */
type RecordedFlags = Record<string, readonly [short: string, type: string, help: string]>

const GROUPS = ['swarm', 'node', 'service', 'stack', 'secret', 'config', 'network']
const [program = 'docker'] = process.argv.slice(2)

function help(...words: readonly string[]): string {
  const env = { PATH: '/usr/bin', HOME: '/nonexistent', DOCKER_HOST: 'unix:///nonexistent.sock' }
  const { stdout, stderr } = spawnSync(program, [...words, '--help'], { encoding: 'utf8', env })
  return stdout || stderr
}

function flagsOf(page: string): RecordedFlags {
  const flags: Record<string, [string, string, string]> = {}
  let last: [string, string, string] | undefined
  for (const line of page.slice(page.indexOf('\nOptions:')).split('\n').slice(2)) {
    const match = /^ {2}(?:-(\w), | {4})--([\w-]+)(?: (\S+))?(?:\s{2,}(.*))?$/.exec(line)
    if (match) {
      last = [match[1] ?? '', match[3] ?? '', (match[4] ?? '').trim()]
      flags[match[2]!] = last
    } else if (last && line.trim() !== '') last[2] = `${last[2]} ${line.trim()}`.trim()
  }
  delete flags.help
  return flags
}

const commands = GROUPS.flatMap((group) => {
  const page = help(group)
  const names = [...page.slice(page.indexOf('Commands:')).matchAll(/^ {2}([a-z-]+)\*? +\S/gm)].map(([, name]) => name!)
  return names.map((name) => [`${group} ${name}`, flagsOf(help(group, name))] as const)
})
process.stdout.write(`${JSON.stringify(Object.fromEntries(commands), null, 2)}\n`)
