// Pulls, as the engine's API sees them: a small server speaks that part of it, since no registry is within reach here.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { pullPolicy } from '../../src/api/service-labels.ts'
import { errorCode, errorMessage } from '../../src/lib/errors.ts'
import { EngineClient } from '../../src/worker/docker/engine-client.ts'
import { ImagePuller } from '../../src/worker/docker/image-puller.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'

const DIGEST = `sha256:${'b'.repeat(64)}`
const never = new AbortController().signal

interface Pulled {
  readonly url: URL
  readonly auth: string | undefined
  readonly response: ServerResponse
  closed: boolean
}

const pulls: Pulled[] = []
const present = new Set<string>()
const socketPath = join(t.testdir(), 'engine.sock')

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://engine')
  if (url.pathname === '/version') response.end(JSON.stringify({ ApiVersion: '1.41' }))
  else if (url.pathname === '/v1.41/images/create') {
    const pull: Pulled = { url, auth: request.headers['x-registry-auth']?.toString(), response, closed: false }
    response.on('close', () => {
      pull.closed = true
    })
    response.writeHead(200).flushHeaders()
    pulls.push(pull)
  } else {
    const image = /^\/v1\.41\/images\/(.*)\/json$/.exec(url.pathname)?.[1] ?? ''
    response.writeHead(present.has(image) ? 200 : 404).end(JSON.stringify({ message: `No such image: ${image}` }))
  }
}

const server = createServer(answer)
server.listen(socketPath)
const clock = new VirtualClock()
const engine = new EngineClient(`unix://${socketPath}`)
const puller = new ImagePuller({ engine, clock })
t.teardown(() => {
  engine.close()
  server.close()
  server.closeAllConnections()
})
t.beforeEach(() => {
  pulls.length = 0
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

t.test('tasks that want the same image share one pull, with the credentials of their service', async (t) => {
  const first = puller.pull('registry:5000/app:2', 'QVVUSA==', never)
  const second = puller.pull('registry:5000/app:2', 'QVVUSA==', never)
  const others = puller.pull('registry:5000/app:2', '', never)
  await until(() => pulls.length === 2)
  const [shared, anonymous] = pulls[0]?.auth ? pulls : pulls.toReversed()
  t.equal(shared?.auth, 'QVVUSA==')
  t.equal(anonymous?.auth, undefined, 'other credentials see other images')
  t.equal(shared?.url.searchParams.get('fromImage'), 'registry:5000/app')
  t.equal(shared?.url.searchParams.get('tag'), '2')
  for (const { response } of pulls) response.end('{"status":"Pulling"}\n{"status":"done"}\n')
  await Promise.all([first, second, others])
  await puller.pull('registry:5000/app:2', 'QVVUSA==', never)
  t.equal(pulls.length, 2, 'who comes a moment later shares it too')
  await clock.advance(10_000)
  const later = puller.pull('registry:5000/app:2', 'QVVUSA==', never)
  await until(() => pulls.length === 3)
  pulls[2]!.response.end()
  await later
})

t.test('an error in the middle of the stream is the pull’s failure', async (t) => {
  const failed = puller.pull('app', '', never).then(
    () => undefined,
    (error: unknown) => error,
  )
  await until(() => pulls.length === 1)
  t.equal(pulls[0]!.url.searchParams.get('tag'), 'latest')
  pulls[0]!.response.end('{"status":"Pulling"}\n{"error":"denied: no access","errorDetail":{}}\n')
  const error = await failed
  t.equal(errorCode(error), 'IMAGE_PULL_FAILED')
  t.equal(errorMessage(error), 'denied: no access')
  await clock.advance(10_000)
  const cut = puller.pull('app', '', never).then(() => undefined, errorCode)
  await until(() => pulls.length === 2)
  pulls[1]!.response.destroy()
  t.equal(await cut, 'IMAGE_PULL_FAILED')
})

t.test('an image by id, or by a digest that is present, is not pulled; an absent digest is', async (t) => {
  await puller.pull(DIGEST, '', never)
  present.add(`app@${DIGEST}`)
  await puller.pull(`app@${DIGEST}`, '', never)
  t.equal(pulls.length, 0)
  const absent = puller.pull(`other@${DIGEST}`, '', never)
  await until(() => pulls.length === 1)
  t.equal(pulls[0]!.url.searchParams.get('tag'), DIGEST)
  pulls[0]!.response.end()
  await absent
})

t.test('a service’s io.swarmctl.pull-policy: what is missing alone is pulled, or nothing ever', async (t) => {
  t.same(
    ['always', 'missing', 'never', 'x', undefined].map((value) =>
      pullPolicy(value ? { 'io.swarmctl.pull-policy': value } : {}),
    ),
    ['always', 'missing', 'never', 'always', 'always'],
  )
  present.add('local:1')
  await puller.pull('local:1', '', never, 'missing')
  await puller.pull('local:1', '', never, 'never')
  await puller.pull('absent:1', '', never, 'never')
  t.equal(pulls.length, 0)
  const absent = puller.pull('absent:1', '', never, 'missing')
  await until(() => pulls.length === 1)
  t.equal(pulls[0]!.url.searchParams.get('fromImage'), 'absent')
  pulls[0]!.response.end()
  await absent
  const always = puller.pull('local:1', '', never, 'always')
  await until(() => pulls.length === 2)
  pulls[1]!.response.end()
  await always
})

t.test('a pull that nobody waits for any more is given up', async (t) => {
  const [one, two] = [new AbortController(), new AbortController()]
  const first = puller.pull('slow', '', one.signal).then(() => undefined, errorCode)
  const second = puller.pull('slow', '', two.signal).then(() => undefined, errorCode)
  await until(() => pulls.length === 1)
  one.abort()
  t.equal(await first, 'STEP_ABORTED')
  t.notOk(pulls[0]!.closed, 'the other still waits')
  two.abort()
  t.equal(await second, 'STEP_ABORTED')
  await until(() => pulls[0]!.closed)
})
