// /swarmd/why, and `swarmctl why` as a person sees it.

import { PassThrough } from 'node:stream'
import t from 'tap'
import type { WhyJson } from '../../src/api/why.ts'
import { run } from '../../src/cli/run.ts'
import { ask } from '../support/api-client.ts'
import { NODE_ID } from '../support/api-cluster.ts'
import { aNode, aTask, statusOf } from '../support/objects.ts'
import { serveApi } from '../support/served-api.ts'

const { folder, socket, cluster } = await serveApi(t)
const call = (method: string, path: string, body?: unknown) =>
  ask(socket, method, path, body === undefined ? {} : { body })

async function swarmctl(...words: readonly string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  stdin.end()
  const code = await run(words, { HOME: folder, DOCKER_HOST: `unix://${socket}` }, { stdin, stdout, stderr })
  const text = (stream: PassThrough) => String(stream.read() ?? '')
  return { code, stdout: text(stdout), stderr: text(stderr) }
}

const ENDED = '2026-01-01T00:00:10.000000000Z'

t.before(async () => {
  t.equal((await call('GET', '/swarmd/why?of=web')).status, 503, 'outside of a cluster nothing has reasons')
  await call('POST', '/swarm/init', { ListenAddr: '127.0.0.1:2377' })
  const spec = {
    Name: 'web',
    TaskTemplate: { ContainerSpec: { Image: 'nginx' } },
    Mode: { Replicated: { Replicas: 2 } },
  }
  const created = await call('POST', '/services/create', spec)
  const { ID } = created.json as { ID: string }
  const Placement = { Constraints: ['node.labels.disk==ssd'] }
  const over = { serviceName: 'web', spec: { ...spec.TaskTemplate, Placement } }
  const placement = {
    at: '2026-01-01T00:00:05.000000000Z',
    nodes: 2,
    fit: 1,
    refused: '1 node not available for new tasks',
    there: 0,
  }
  const error = 'task: non-zero exit (1)'
  const failed = statusOf('failed', { timestamp: ENDED, error })
  cluster.apply([
    {
      kind: 'create',
      object: aNode('far00000000000000000000b', { status: { state: 'down', message: '', address: '' } }),
    },
    {
      kind: 'create',
      object: aTask('old0000000000000000000001', ID, {
        ...over,
        nodeId: NODE_ID,
        desiredState: 'shutdown',
        status: failed,
        origin: { kind: 'replica' },
        placement,
      }),
    },
  ])
  cluster.apply([
    {
      kind: 'create',
      object: aTask('new0000000000000000000001', ID, {
        ...over,
        status: statusOf('pending', { timestamp: ENDED }),
        origin: { kind: 'restart', predecessorId: 'old0000000000000000000001', detail: `task old failed: ${error}` },
      }),
    },
  ])
})

t.test('the API answers by name, id and prefix, writes nothing, and refuses what it can not read', async (t) => {
  const writes = cluster.proposed.length
  const answer = await call('GET', '/v1.41/swarmd/why?of=web')
  t.equal(answer.status, 200)
  t.match(answer.json, {
    Kind: 'service',
    Name: 'web',
    Now: '0 running of 2',
    Placement: { Waiting: 1, Nodes: 2, Fit: 0, Refusals: [{ Nodes: 1 }, { Nodes: 1 }] },
  })
  t.match((await call('GET', '/swarmd/why?of=new0')).json, { Kind: 'task', Name: 'web.1', Placement: { Fit: 0 } })
  t.match((await call('GET', '/swarmd/why?of=manager-1')).json, { Kind: 'node', ID: NODE_ID })
  t.equal(((await call('GET', '/swarmd/why?of=web&limit=2')).json as WhyJson).History.length, 2)
  t.equal((await call('GET', '/swarmd/why?of=nope')).status, 404)
  t.equal((await call('GET', '/swarmd/why?of=web&type=stack')).status, 400)
  t.equal((await call('GET', '/swarmd/why?of=web&limit=1000')).status, 400)
  t.equal(cluster.proposed.length, writes)
})

t.test('the command shows it as a short history', async (t) => {
  const { code, stdout } = await swarmctl('why', 'web.1')
  t.equal(code, 0)
  t.match(
    stdout,
    /^task web\.1 \(new0+1\): pending since 2026-01-01 00:00:10Z\n {2}- no node will do: 2 nodes considered/,
  )
  t.match(stdout, /Nodes:\n {2}NODE +TASKS +WHY\n/)
  t.match(
    stdout,
    /\n {2}manager-1 +0\/0 +scheduling constraints not satisfied: node\.labels\.disk==ssd: the node has none\n/,
  )
  t.match(stdout, /\n {2}2026-01-01 00:00:05Z +scheduler +web\.1 +placed on manager-1: 2 nodes considered, 1 refused/)
  t.match(stdout, /\n {2}2026-01-01 00:00:10Z +node manager-1 +web\.1 +failed: task: non-zero exit \(1\)\n/)
  const json = await swarmctl('why', '--format', 'json', 'web')
  t.match(JSON.parse(json.stdout), { Kind: 'service', Placement: { Waiting: 1 } })
  t.equal((await swarmctl('why', '--format', '{{.Kind}} {{.Name}}', 'self')).stdout, 'node manager-1\n')
  t.match((await swarmctl('why', '--type', 'node', 'web')).stderr, /node web not found/)
})

t.test('what is mistyped gets a suggestion, and names are completed', async (t) => {
  const typo = await swarmctl('why', 'wbe')
  t.equal(typo.code, 1)
  t.match(typo.stderr, /task, service or node wbe not found\n\nDid you mean this\?\n\tweb\n/)
  t.equal((await swarmctl('why')).code, 1)
  t.match((await swarmctl('__complete', 'why', '')).stdout, /^web\n(.*\n)*manager-1\n(.*\n)*self\n/)
  t.match(
    (await swarmctl('why', '--help')).stdout,
    /Usage: {2}swarmctl why \[OPTIONS\] TASK\|SERVICE\|NODE[\s\S]*swarmctl why web\.2/,
  )
})
