// Support bundles: what is in them, and above all what is not.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Engine } from '../../src/daemon/api/engine.ts'
import type { NodeFacts, Sample } from '../../src/daemon/metrics/node-facts.ts'
import { fileTail } from '../../src/daemon/support/log-tail.ts'
import { redact, scrub } from '../../src/daemon/support/redact.ts'
import { supportBundle } from '../../src/daemon/support/support-bundle.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { Histogram } from '../../src/lib/histogram.ts'
import { tarOf } from '../../src/lib/tar.ts'
import { standInEngine } from '../support/api-client.ts'
import { ApiCluster, NODE_ID } from '../support/api-cluster.ts'
import { aConfig, aSecret, aService, aTask, statusOf } from '../support/objects.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** Each stands in a place of its own; none may be found in a bundle, in whatever spelling. */
const MARKERS = {
  env: 'marker-environment',
  argument: 'marker-argument',
  health: 'marker-health',
  label: 'marker-label',
  logOption: 'marker-log-option',
  volumeOption: 'marker-volume-option',
  secret: 'marker-secret',
  config: 'marker-config',
  registry: 'marker-registry',
  before: 'marker-before',
  unlock: 'marker-unlock',
}

const SPEC = {
  Name: 'shop_web',
  Labels: { 'com.docker.stack.namespace': 'shop', 'traefik.auth': MARKERS.label },
  TaskTemplate: {
    ContainerSpec: {
      Image: 'nginx:1.27',
      Env: [`PASSWORD=${MARKERS.env}`, 'EMPTY', 'MODE=production-like'],
      Args: ['serve', `--key=${MARKERS.argument}`],
      Healthcheck: { Test: ['CMD', MARKERS.health] },
      Mounts: [
        {
          Type: 'volume' as const,
          Target: '/data',
          VolumeOptions: { DriverConfig: { Name: 'nfs', Options: { o: MARKERS.volumeOption } } },
        },
      ],
    },
    LogDriver: { Name: 'splunk', Options: { 'splunk-token': MARKERS.logOption, 'max-size': '10m' } },
  },
}

async function secretiveCluster() {
  const cluster = await ApiCluster.inSwarm()
  const old = cluster.store.cluster()!
  cluster.apply([
    { kind: 'update', object: { ...old, unlockKey: MARKERS.unlock }, expectedVersion: old.meta.version },
    { kind: 'create', object: aSecret('sec1', { spec: { Name: 'password', Data: base64(MARKERS.secret) } }) },
    { kind: 'create', object: aConfig('conf1', { spec: { Name: 'settings', Data: base64(MARKERS.config) } }) },
    {
      kind: 'create',
      object: aService('s1', {
        spec: SPEC,
        previousSpec: { ...SPEC, TaskTemplate: { ContainerSpec: { Image: 'x', Env: [`A=${MARKERS.before}`] } } },
        registryAuth: base64(`{"password":"${MARKERS.registry}"}`),
      }),
    },
    {
      kind: 'create',
      object: aTask('t1', 's1', {
        spec: SPEC.TaskTemplate,
        nodeId: NODE_ID,
        status: statusOf('rejected', { error: `exec: "serve ${MARKERS.env}": not found` }),
      }),
    },
  ])
  return cluster
}

/** Unpacked by the machine's own tar. */
function unpack(test: Pick<typeof t, 'teardown'>, archive: Buffer): Map<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-bundle-'))
  test.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'bundle.tar.gz')
  writeFileSync(path, archive)
  const tar = (...args: string[]) => execFileSync('tar', args, { encoding: 'utf8' })
  const names = tar('-tzf', path).trim().split('\n')
  return new Map(names.map((name) => [name.replace('swarmctl-support/', ''), tar('-xzOf', path, name)]))
}

async function bundleOf(
  test: Pick<typeof t, 'teardown'>,
  facts: NodeFacts,
  logs: Record<string, () => Promise<string>>,
) {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-bundle-engine-'))
  const stand = await standInEngine(join(folder, 'engine.sock'))
  test.teardown(async () => {
    await stand.close()
    rmSync(folder, { recursive: true })
  })
  const clock = new SystemClock()
  const sample: Sample = {
    ...facts,
    wallMs: clock.wallMs(),
    engine: { kind: 'up', value: { version: '1' } },
    dataPlane: { kind: 'down', reason: 'nobody answers' },
    disk: { spaces: [], pressure: [], manager: { kind: 'room' } },
    diskBytes: { free: 1, size: 2 },
  }
  const engine = new Engine({ kind: 'unix', path: stand.path }, clock)
  return unpack(test, await supportBundle({ sample: async () => sample, engine, logs, clock }))
}

t.test('no secret, value of a variable, token or registry login is in a bundle', async (t) => {
  const cluster = await secretiveCluster()
  const { joinTokens, keyPem } = cluster.store.cluster()!.rootCa
  const auth = cluster.store.get('service', 's1')!.registryAuth
  const log = [...Object.values(MARKERS).filter((word) => !/(argument|health|label|option)$/.test(word)), auth, keyPem]
    .concat(joinTokens.worker, joinTokens.manager, base64(MARKERS.secret))
    .map((word) => `{"msg":"a line with ${word} in it"}`)
    .join('\n')
  const facts = { state: cluster.state(), membership: undefined, reads: new Histogram() }
  const files = await bundleOf(t, facts, { 'swarmd.log': async () => log })

  const all = [...files.values()].join('\n')
  for (const [place, word] of Object.entries(MARKERS)) {
    t.notMatch(all, word, place)
    t.notMatch(all, base64(word), `${place}, in base64`)
  }
  t.notMatch(all, auth)
  t.notMatch(all, joinTokens.worker)
  t.notMatch(all, joinTokens.manager)
  t.notMatch(all, 'PRIVATE KEY')
  t.match(files.get('swarmd.log'), /a line with <redacted> in it/)
})

t.test('what is needed to understand the node is there', async (t) => {
  const cluster = await secretiveCluster()
  const facts = { state: cluster.state(), membership: undefined, reads: new Histogram() }
  const logs = { 'swarmd.log': async () => 'started\n', 'none.log': () => Promise.reject(new Error('no such log')) }
  const files = await bundleOf(t, facts, logs)
  const json = (name: string): unknown => JSON.parse(files.get(name) ?? 'null')
  t.match(json('bundle.json'), { version: String, missing: { 'none.log': 'no such log' } })
  t.match(json('services.json'), [
    {
      ID: 's1',
      Spec: {
        Name: 'shop_web',
        Labels: { 'com.docker.stack.namespace': 'shop', 'traefik.auth': '<redacted>' },
        TaskTemplate: {
          ContainerSpec: {
            Image: 'nginx:1.27',
            Env: ['PASSWORD=<redacted>', 'EMPTY=<redacted>', 'MODE=<redacted>'],
            Args: ['<redacted>', '<redacted>'],
          },
          LogDriver: { Name: 'splunk', Options: { 'splunk-token': '<redacted>', 'max-size': '10m' } },
        },
      },
    },
  ])
  t.match(json('tasks.json'), [{ ID: 't1', Status: { State: 'rejected', Err: 'exec: "serve <redacted>": not found' } }])
  t.match(json('nodes.json'), [{ ID: NODE_ID, Description: { Hostname: 'manager-1' } }])
  t.match(json('secrets.json'), [{ ID: 'sec1', Spec: { Name: 'password' } }])
  t.match(json('configs.json'), [{ Spec: { Name: 'settings', Data: '<redacted>' } }])
  t.match(json('engine-info.json'), { Name: 'host' })
  t.match(json('readiness.json'), { ready: false })
  t.match(files.get('metrics.txt'), 'swarm_manager_services_total 1')
  t.equal(files.get('swarmd.log'), 'started\n')
})

t.test('a node that is in no swarm has a bundle too', async (t) => {
  const facts: NodeFacts = { state: { kind: 'inactive' }, membership: undefined, reads: new Histogram() }
  const files = await bundleOf(t, facts, {})
  t.match(JSON.parse(files.get('node.json') ?? ''), { kind: 'inactive' })
  t.notOk(files.has('services.json'))
})

t.test('texts lose what looks like a secret', (t) => {
  const cases: readonly (readonly [string, string])[] = [
    ['join with SWMTKN-1-2abc-3def now', 'join with SWMTKN-1-<redacted> now'],
    ['postgres://user:pass@db/x', 'postgres://<redacted>@db/x'],
    ['run --password=hunter2 --level=1', 'run --password=<redacted> --level=1'],
    ['Authorization: Bearer abcdefgh.ijk', 'Authorization: Bearer <redacted>'],
    ['a -----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY----- b', 'a <redacted> b'],
    ['http://10.0.0.1:2377/path@1', 'http://10.0.0.1:2377/path@1'],
  ]
  for (const [text, clean] of cases) t.equal(scrub(text, []), clean)
  t.same(redact({ JoinTokens: { Worker: 'x' }, Token: 'y', Tty: true }), {
    JoinTokens: '<redacted>',
    Token: '<redacted>',
    Tty: true,
  })
  t.end()
})

t.test('a log’s tail begins with a whole line', async (t) => {
  const folder = t.testdir({ log: `${'0123456789\n'.repeat(100_000)}end\n` })
  const tail = await fileTail(join(folder, 'log'))
  t.ok(tail.length < 300_000)
  t.match(tail, /^0123456789\n/)
  t.ok(tail.endsWith('\nend\n'))
})

t.test('an archive of files whose sizes are no multiple of a block', (t) => {
  const files = [0, 1, 511, 512, 513].map((size) => ({
    name: `swarmctl-support/f${size}`,
    data: Buffer.alloc(size, 'a'),
  }))
  const found = unpack(t, execFileSync('gzip', { input: tarOf(files, 0) }))
  for (const { name, data } of files) t.equal(found.get(name.replace('swarmctl-support/', ''))?.length, data.length)
  t.end()
})
