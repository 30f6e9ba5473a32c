/** Whatever lists or shows objects of the cluster: for the same state, docker and swarmctl print the same bytes. */
import { PassThrough } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import type { Test } from 'tap'
import type { LabHost } from '../../../lab/lab-host.ts'
import { run as runProgram } from '../../../lab/run.ts'
import { run } from '../../../src/cli/run.ts'
import { DOCKER_CLIENTS, isModern } from '../../support/docker-clients.ts'

const TRIES = 3
const AT_ONCE = 6

const clients = DOCKER_CLIENTS.map((path) => ({ path, isModern: isModern(path) }))

/** What listings can be asked for: the names are those of objects that exist. */
export interface Shown {
  readonly services: readonly string[]
  readonly stack: string
  readonly secret: string
  readonly config: string
  readonly network: string
  readonly nodes: readonly string[]
}

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Of each listing: its command, its filters, and the fields of a template of its own. */
function linesOf({ services, stack, secret, config, network, nodes }: Shown): readonly (readonly string[])[] {
  const [service = '', ...others] = services
  const [node = ''] = nodes
  const listings: readonly (readonly [readonly string[], readonly string[], string])[] = [
    [
      ['node', 'ls'],
      ['role=manager', `name=${node}`, 'membership=accepted', 'node.label=none', 'label=none'],
      '{{.ID}} {{.Self}} {{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.TLSStatus}} {{.EngineVersion}}',
    ],
    [
      // of several nodes docker lists the tasks of the first as often as there are nodes
      ['node', 'ps', node],
      ['desired-state=running', 'name=none'],
      '{{.Name}} {{.Image}} {{.Node}} {{.DesiredState}}',
    ],
    [
      ['service', 'ls'],
      [`name=${service}`, 'mode=global', 'mode=replicated-job', 'label=none'],
      '{{.ID}} {{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}',
    ],
    [
      ['service', 'ps', ...services],
      ['desired-state=running', 'desired-state=shutdown', `node=${node}`],
      '{{.ID}} {{.Name}} {{.Image}} {{.Node}} {{.DesiredState}} {{.Error}} {{.Ports}}',
    ],
    [['stack', 'ps', stack], ['desired-state=running', `node=${node}`], '{{.Name}} {{.Image}} {{.Node}} {{.Error}}'],
    [
      ['stack', 'services', stack],
      [`name=${stack}`, 'mode=global'],
      '{{.ID}} {{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}',
    ],
    [['secret', 'ls'], [`name=${secret}`, 'label=none'], '{{.ID}} {{.Name}} {{.Driver}} {{.Labels}}'],
    [['config', 'ls'], [`name=${config}`, 'label=none'], '{{.ID}} {{.Name}} {{.Labels}}'],
    [
      ['network', 'ls'],
      ['driver=overlay', 'scope=swarm', `name=${network}`, 'type=builtin', 'type=custom', 'label=none'],
      '{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.Labels}}',
    ],
  ]
  const cuts = ['node ps', 'service ps', 'stack ps', 'network ls']
  const resolved = ['node ps', 'service ps', 'stack ps']
  return [
    ...listings.flatMap(([words, filters, template]) => {
      const kind = words.slice(0, 2).join(' ')
      const flags: readonly (readonly string[])[] = [
        [],
        ['-q'],
        ...filters.map((filter) => ['--filter', filter]),
        ['--filter', 'nonsense=1'],
        ...(cuts.includes(kind) ? [['--no-trunc'], ['--no-trunc', '-q']] : []),
        ...(resolved.includes(kind) ? [['--no-resolve']] : []),
        ['--format', template],
        ['--format', `table ${template.replaceAll(' ', '\t')}`],
        ['--format', 'json'],
        ['--format', '{{json .}}'],
        ['--format', '{{.Nonsense}}'],
      ]
      return flags.map((each) => [...words.slice(0, 2), ...each, ...words.slice(2)])
    }),
    ['stack', 'ls'],
    ['stack', 'ls', '--format', '{{.Name}} {{.Services}}'],
    ['stack', 'ls', '--format', 'table {{.Name}}\t{{.Services}}'],
    ['stack', 'ls', '--format', 'json'],
    ['stack', 'ps', 'absent'],
    ['stack', 'services', 'absent'],
    ['service', 'ps', 'absent'],
    ['node', 'ps', 'absent'],
    ['service', 'inspect', '--pretty', ...services],
    ...others.map((other) => ['service', 'inspect', '--pretty', other]),
    ['node', 'inspect', '--pretty', ...nodes],
    ['secret', 'inspect', '--pretty', secret],
    ['config', 'inspect', '--pretty', config],
    ...(
      [
        ['service', service],
        ['node', node],
        ['secret', secret],
        ['config', config],
        ['network', network],
      ] as const
    ).flatMap(([kind, name]) => [
      [kind, 'inspect', name],
      [kind, 'inspect', 'absent'],
      [kind, 'inspect', name, 'absent'],
      [kind, 'inspect', '--format', 'json', name],
      [kind, 'inspect', '--format', '{{json .}}', name],
      [kind, 'inspect', '--format', '{{.ID}} {{.Nonsense}}', name],
    ]),
    ['network', 'inspect', '--verbose', network],
    ['network', 'inspect', 'bridge'],
  ]
}

async function swarmctl(words: readonly string[], env: NodeJS.ProcessEnv): Promise<Outcome> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const text = async (stream: PassThrough) => Buffer.concat(await stream.toArray()).toString()
  const [out, error] = [text(stdout), text(stderr)]
  stdin.end()
  const code = await run(words, env, { stdin, stdout, stderr })
  stdout.end()
  stderr.end()
  return { code, stdout: await out, stderr: await error }
}

const AGE = /(?:Less than a second|About an? \w+|\d+ \w+) ago *|(?<=CURRENT STATE|CREATED|UPDATED) +/g

/** But for the program's own name and for ages: the one is asked a moment before the other (cli-oracle.test.ts compares those). */
const plain = ({ code, stdout, stderr }: Outcome): Outcome => ({
  code,
  stdout: stdout.replaceAll('swarmctl', 'docker').replaceAll(AGE, ' '),
  stderr: stderr.replaceAll('swarmctl', 'docker'),
})

/** Asks all at once, and again where they differ: the state may have changed in between. */
export async function listingsAgree(t: Test, host: LabHost, shown: Shown): Promise<void> {
  const env = host.clientEnv('swarmd')
  const agree = async (words: readonly string[]): Promise<void> => {
    // An older client beside a newer one is asked for what everybody asks for.
    const asked = clients.filter(({ isModern }, i) => isModern || (hasOldForm(words) && (i === 0 || !isSpecial(words))))
    for (let tries = TRIES; ; tries--) {
      const [ours, ...theirs] = await Promise.all([
        swarmctl(words, env),
        ...asked.map(({ path }) => runProgram([path, ...words], { env })),
      ])
      const isSame = theirs.every((each) => isDeepStrictEqual(plain(each), plain(ours)))
      if (!isSame && tries > 0) continue
      for (const [i, each] of theirs.entries()) {
        t.same(plain(ours), plain(each), `${asked[i]?.path} ${words.join(' ')}`)
      }
      return
    }
  }
  const lines = linesOf(shown)
  for (let at = 0; at < lines.length; at += AT_ONCE) await Promise.all(lines.slice(at, at + AT_ONCE).map(agree))
}

const isSpecial = (words: readonly string[]) => words.some((word) => word.startsWith('-') && word !== '--pretty')

/** False for what 20.10 says in other words, or with fewer fields. */
function hasOldForm(words: readonly string[]): boolean {
  const [kind, command] = words
  if (words.includes('json') || (kind === 'stack' && command === 'ls' && words.length === 2)) return false
  if (command === 'inspect' && !words.includes('--pretty')) {
    if (words.includes('absent') || words.some((word) => word.includes('Nonsense'))) return false
    return kind === 'secret' || kind === 'config' || !(kind === 'service' || words.includes('{{json .}}'))
  }
  if (kind === 'network' && words.includes('{{json .}}')) return false
  return !(kind === 'node' && command === 'ps' && words.includes('absent'))
}
