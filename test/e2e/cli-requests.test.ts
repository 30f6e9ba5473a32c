// The docker CLI and swarmctl send the same requests, and refuse the same command lines with the same words. Both talk to
// a recorder in a daemon's place, so nothing but the docker CLI is needed. With RECORD_DOCKER_CLI=1 what docker sent, printed and
// refused becomes test/cli/golden (docker 28.2.2 made the present files): machines that have 20.10 alone compare with that.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t from 'tap'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { run } from '../../src/cli/run.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { createRootCa } from '../../src/lib/x509-node.ts'
import { templates } from '../cli/format-cases.ts'
import { createCases, refusals, updateCases } from '../cli/service-cases.ts'
import { comparableSpec } from '../cli/spec-compare.ts'
import { DOCKER_CLIENTS, isModern } from '../support/docker-clients.ts'
import { DockerRecorder, type Recorded } from './support/docker-recorder.ts'

const RECORDING = process.env.RECORD_DOCKER_CLI === '1'
const golden = join(process.cwd(), 'test/cli/golden')
const base: unknown = JSON.parse(readFileSync(join(golden, 'base-service.json'), 'utf8'))

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  readonly requests: readonly Recorded[]
}

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'cli-requests-'))
const socket = join(folder, 'docker.sock')
const environment = {
  PATH: process.env.PATH ?? '',
  HOME: folder,
  DOCKER_HOST: `unix://${socket}`,
  DOCKER_CLI_HINTS: 'false',
  FROM_SHELL: 'shell value',
}
const rootFile = join(folder, 'root.pem')
const keyFile = join(folder, 'root.key')
const root = createRootCa({ wallMs: Date.now(), random: new SystemRandom() })
writeFileSync(rootFile, root.certPem)
writeFileSync(keyFile, root.keyPem)
const recorder = new DockerRecorder(base)
t.before(() => recorder.listen(socket))
t.teardown(async () => {
  await recorder.close()
  rmSync(folder, { recursive: true })
})

function docker(program: string, words: readonly string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr, requests: recorder.takeChanges() }))
  })
}

async function swarmctl(words: readonly string[]): Promise<Outcome> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  stdin.end()
  const code = await run(words, environment, { stdin, stdout, stderr })
  const text = (stream: PassThrough) => String(stream.read() ?? '')
  return { code, stdout: text(stdout), stderr: text(stderr), requests: recorder.takeChanges() }
}

const specOf = (outcome: Outcome) => outcome.requests[0]?.body as ServiceSpec | undefined
const byKey = ([a]: [string, string], [b]: [string, string]) => (a < b ? -1 : 1)
const queryOf = (outcome: Outcome) => [...new URLSearchParams(outcome.requests[0]?.query)].sort(byKey)
const asDocker = (text: string) => text.replaceAll('swarmctl', 'docker')
/** 20.10 cannot say these, or says them in other words. */
const LATER = /oom-score-adj|start-interval|bind-recursive|host-gateway|volume-subpath|b=::1|image-subpath/

for (const program of DOCKER_CLIENTS) {
  const modern = isModern(program)
  const cases = (list: readonly (readonly string[])[]) => list.filter((words) => modern || !LATER.test(words.join(' ')))
  const recorded = { create: {} as Record<string, unknown>, update: {} as Record<string, unknown> }

  t.test(`service create sends what ${program} sends`, async (t) => {
    for (const words of cases(createCases)) {
      const line = ['service', 'create', '-d', '--no-resolve-image', ...words]
      const wanted = await docker(program, line)
      recorded.create[words.join(' ')] = wanted.requests[0]?.body
      const actual = await swarmctl(line)
      t.equal(comparableSpec(specOf(actual)), comparableSpec(specOf(wanted)), words.join(' '))
      t.equal(actual.stdout, wanted.stdout)
    }
  })

  t.test(`service update sends what ${program} sends`, async (t) => {
    for (const words of cases(updateCases)) {
      const line = ['service', 'update', '-d', '--no-resolve-image', ...words, 'base']
      const wanted = await docker(program, line)
      recorded.update[words.join(' ')] = wanted.requests[0]?.body
      const actual = await swarmctl(line)
      t.equal(comparableSpec(specOf(actual)), comparableSpec(specOf(wanted)), words.join(' '))
      t.same(queryOf(actual), queryOf(wanted))
    }
  })

  const rendered: Record<string, string> = {}
  if (modern) {
    t.test(`templates print what ${program} prints`, async (t) => {
      for (const template of templates) {
        const line = ['service', 'inspect', '--format', template, 'base']
        const wanted = await docker(program, line)
        rendered[template] = wanted.code === 0 ? wanted.stdout : wanted.stderr
        const actual = await swarmctl(line)
        t.equal(actual.stdout, wanted.stdout, template)
        t.equal(actual.stderr, wanted.stderr, `errors of ${template}`)
      }
    })
  }

  t.test(`other commands send what ${program} sends`, async (t) => {
    const lines: readonly (readonly string[])[] = [
      ['swarm', 'init'],
      [
        'swarm',
        'init',
        '--advertise-addr',
        'eth0:1',
        '--listen-addr',
        '1.2.3.4',
        '--availability',
        'Drain',
        '--task-history-limit',
        '2',
        '--cert-expiry',
        '48h',
        '--dispatcher-heartbeat',
        '3s',
        '--max-snapshots',
        '1',
        '--snapshot-interval',
        '50',
        '--default-addr-pool',
        '10.1.0.0/16',
        '--default-addr-pool',
        '10.2.0.0/16',
        '--default-addr-pool-mask-length',
        '26',
        '--data-path-addr',
        'eth1',
        '--data-path-port',
        '7777',
        '--external-ca',
        'protocol=cfssl,url=https://x',
      ],
      ['swarm', 'join', '--token', 'T', '--advertise-addr', 'a', '10.0.0.1:2377'],
      ['swarm', 'init', '--autolock'],
      ['swarm', 'init', '--force-new-cluster', '--advertise-addr', '10.0.0.1'],
      [
        'swarm',
        'join',
        '--token',
        'T',
        '--advertise-addr',
        'eth0:2377',
        '--listen-addr',
        'eth1:4000',
        '--data-path-addr',
        'eth2',
        '--availability',
        'pause',
        '10.0.0.1:2377',
      ],
      ['swarm', 'leave'],
      ['swarm', 'leave', '--force'],
      ['swarm', 'update', '--autolock=false', '--task-history-limit', '1'],
      [
        'swarm',
        'update',
        '--autolock',
        '--task-history-limit',
        '0',
        '--cert-expiry',
        '2h',
        '--dispatcher-heartbeat',
        '7s',
        '--max-snapshots',
        '3',
        '--snapshot-interval',
        '77',
        '--external-ca',
        'protocol=cfssl,url=https://x',
      ],
      // 20.10 sends the root in place of the file, and does not unlock in a state that it does not know.
      ...(modern
        ? [
            ['swarm', 'update', '--external-ca', `protocol=cfssl,url=https://y,cacert=${rootFile}`],
            ['swarm', 'unlock'],
          ]
        : []),
      ['swarm', 'unlock-key'],
      ['swarm', 'unlock-key', '--rotate'],
      ['swarm', 'ca', '--rotate', '-d', '--ca-cert', rootFile, '--ca-key', keyFile, '--cert-expiry', '3h'],
      ['swarm', 'ca', '--rotate', '-d', '--ca-cert', rootFile, '--external-ca', 'protocol=cfssl,url=https://x'],
      ['swarm', 'join-token', '--rotate', 'worker'],
      ['swarm', 'join-token', '--rotate', '-q', 'manager'],
      ['swarm', 'ca', '--rotate', '-d'],
      ['node', 'update', '--availability', 'drain', '--label-add', 'a=b', '--label-rm', 'old', 'node1'],
      ['node', 'promote', 'node1'],
      ['node', 'demote', 'node1'],
      ['node', 'rm', '--force', 'a', 'b'],
      ['service', 'scale', '-d', 'base=5', 'base=0'],
      ['service', 'rollback', '-d', 'base'],
      ['service', 'update', '-d', '--rollback', 'base'],
      ['service', 'rm', 'a', 'b'],
      ['secret', 'create', '-l', 'a=b', '--template-driver', 'golang', 'name', 'test/cli/golden/variables.env'],
      ['secret', 'create', '-d', 'vault', 'name'],
      ['secret', 'rm', 'a'],
      ['config', 'create', '-l', 'a', 'name', 'test/cli/golden/variables.env'],
      [
        'network',
        'create',
        '-d',
        'overlay',
        '--attachable',
        '--label',
        'a=b',
        '-o',
        'encrypted',
        '--subnet',
        '10.9.0.0/16',
        '--gateway',
        '10.9.0.1',
        '--ip-range',
        '10.9.1.0/24',
        '--aux-address',
        'x=10.9.0.9',
        '--internal',
        '--scope',
        'swarm',
        'name',
      ],
      ['network', 'create', 'name'],
      ['network', 'rm', 'net1'],
      ['network', 'create', '--config-only', '--subnet', '10.9.0.0/16', 'name'],
      ['network', 'create', '--config-from', 'net1', 'name'],
      ['network', 'create', '-d', 'overlay', '--ingress', 'name'],
      ['network', 'connect', 'net1', 'web'],
      ['network', 'connect', '--alias', 'a,b', '--alias', 'c', '--driver-opt', 'k=v', 'net1', 'web'],
      [
        'network',
        'connect',
        '--ip',
        '10.9.0.8',
        '--ip6',
        '2001:db8::33',
        '--link-local-ip',
        '169.254.3.4',
        'net1',
        'web',
      ],
      ['network', 'connect', '--link', 'db:database', 'net1', 'web'],
      ...(modern ? [['network', 'connect', '--gw-priority', '-3', 'net1', 'web']] : []),
      ['network', 'disconnect', 'net1', 'web'],
      ['network', 'disconnect', '-f', 'net1', 'web'],
      ['network', 'prune', '-f'],
      ['network', 'prune', '-f', '--filter', 'label!=keep', '--filter', 'until=24h'],
    ]
    for (const words of lines) {
      const wanted = await docker(program, words)
      const actual = await swarmctl(words)
      t.same(normalized(actual.requests), normalized(wanted.requests), words.join(' '))
      // 20.10 ends some messages with one more empty line
      t.equal(asDocker(actual.stdout).trimEnd(), wanted.stdout.trimEnd())
      t.equal(actual.code, wanted.code)
    }
  })

  if (!modern) continue
  const refused: Record<string, string> = {}
  t.test(`what ${program} refuses is refused with the same words`, async (t) => {
    for (const words of refusals) {
      const wanted = await docker(program, words)
      refused[words.join(' ')] = `${wanted.code} ${wanted.stderr}`
      const actual = await swarmctl(words)
      t.equal(asDocker(actual.stderr), wanted.stderr, words.join(' '))
      t.equal(actual.code, wanted.code, `exit code of ${words.join(' ')}`)
      t.same(actual.requests, [], 'nothing was asked of the daemon')
    }
  })

  if (!RECORDING) continue
  t.test('golden files', async () => {
    const files = { 'service-requests': recorded, templates: rendered, refusals: refused }
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(golden, `${name}.json`), `${JSON.stringify(content, null, 1)}\n`)
    }
  })
}

/** Go writes null where nothing is, empty maps where no option was given, and a query in the order of its keys. */
function normalized(requests: readonly Recorded[]): unknown {
  return requests.map(({ method, path, query, body }) => ({
    method,
    path,
    query: [...new URLSearchParams(query)].sort(byKey),
    body: pruned(body),
  }))
}

/** Numbers that Go writes of an end point that has none of them. */
const OF_NO_ENDPOINT: ReadonlySet<string> = new Set(['IPPrefixLen', 'GlobalIPv6PrefixLen', 'GwPriority'])

function pruned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(pruned)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [key, pruned(inner)] as const)
  return Object.fromEntries(
    entries.filter(([key, inner]) => {
      // a daemon of API 1.44 always checks; the recorder claims 1.51 to a client that knows 1.41
      if (key === 'CheckDuplicate') return false
      if (inner === 0 && OF_NO_ENDPOINT.has(key)) return false
      if (inner === null || inner === '' || inner === false) return false
      return !(typeof inner === 'object' && Object.keys(inner ?? {}).length === 0)
    }),
  )
}
