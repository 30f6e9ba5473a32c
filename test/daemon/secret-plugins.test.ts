// Plugins that give secrets, on real sockets: how they are found, what they are asked, and what comes of those that fail.

import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Engine } from '../../src/daemon/api/engine.ts'
import { SecretPlugins } from '../../src/daemon/plugins/secret-plugins.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import type { SecretRequest } from '../../src/manager/dispatcher/secret-request.ts'
import { standInEngine } from '../support/api-client.ts'

const REQUEST: SecretRequest = { SecretName: 'word', TaskID: 't1', TaskName: 'web.1.t1', NodeID: 'n1' }
const signal = new AbortController().signal

interface Asked {
  readonly path: string
  readonly accept: string
  readonly body: unknown
}

interface Ending {
  teardown(handler: () => unknown): void
}

/** A plugin as Docker's documentation has it. @param where path of a socket, or a port */
async function plugin(
  test: Ending,
  where: string | number,
  answer: (request: SecretRequest) => { readonly status?: number; readonly text: string },
  capability = 'secretprovider',
): Promise<{ readonly asked: Asked[]; readonly server: Server }> {
  const asked: Asked[] = []
  const server = createServer((request, response) => void serve(request, response))
  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(Buffer.from(chunk))
    const text = Buffer.concat(chunks).toString('utf8')
    const path = request.url ?? ''
    asked.push({ path, accept: request.headers.accept ?? '', body: text === '' ? '' : JSON.parse(text) })
    const activates = path === '/Plugin.Activate'
    const { status = 200, text: body } = activates
      ? { text: JSON.stringify({ Implements: [capability] }) }
      : answer(JSON.parse(text))
    response.writeHead(status).end(body)
  }
  if (typeof where === 'number') server.listen(where, '127.0.0.1')
  else server.listen(where)
  await once(server, 'listening')
  test.teardown(() => server.close())
  return { asked, server }
}

const value = (text: string) => ({ text: JSON.stringify({ Value: Buffer.from(text).toString('base64') }) })

async function machine(test: Ending) {
  // Paths of sockets are short.
  const root = mkdtempSync(join(tmpdir(), 'plugins-'))
  test.teardown(() => rmSync(root, { recursive: true }))
  for (const folder of ['sockets', 'etc', 'lib']) mkdirSync(join(root, folder))
  const engine = await standInEngine(join(root, 'engine.sock'))
  test.teardown(() => engine.close())
  engine.answers.set('/plugins', [])
  const places = { sockets: join(root, 'sockets'), specs: [join(root, 'etc'), join(root, 'lib')] }
  const clock = new SystemClock()
  const plugins = new SecretPlugins({
    engine: new Engine({ kind: 'unix', path: join(root, 'engine.sock') }, clock),
    clock,
    places,
  })
  const get = async (name: string) => Buffer.from(await plugins.get({ Name: name }, REQUEST, signal)).toString()
  return { root, engine, get }
}

t.test('a plugin is found by its socket, activated once and asked each time', async (t) => {
  const { root, get } = await machine(t)
  const socket = join(root, 'sockets', 'vault.sock')
  let count = 0
  const { asked, server } = await plugin(t, socket, () => value(`secret ${++count}`))
  t.equal(await get('vault'), 'secret 1')
  t.equal(await get('vault'), 'secret 2')
  t.same(
    asked.map(({ path }) => path),
    ['/Plugin.Activate', '/SecretProvider.GetSecret', '/SecretProvider.GetSecret'],
  )
  t.same(asked[1]?.body, REQUEST)
  t.equal(asked[1]?.accept, 'application/vnd.docker.plugins.v1.2+json')
  server.close()
  writeFileSync(join(root, 'etc', 'vault.spec'), 'unix:///nowhere/vault.sock\n')
  await t.rejects(get('vault'), {
    code: 'PLUGIN_UNREACHABLE',
    retryable: true,
    message: /cannot reach unix:.*vault\.sock/,
  })
})

t.test('by a file that names its address, in a folder of its own too', async (t) => {
  const { root, get } = await machine(t)
  mkdirSync(join(root, 'sockets', 'deep'))
  await plugin(t, join(root, 'sockets', 'deep', 'deep.sock'), () => value('deep'))
  const { server } = await plugin(t, 0, () => value('by tcp'))
  const { port } = server.address() as { port: number }
  writeFileSync(join(root, 'lib', 'far.spec'), `tcp://127.0.0.1:${port}\n`)
  writeFileSync(join(root, 'etc', 'json.json'), JSON.stringify({ Name: 'json', Addr: `http://127.0.0.1:${port}` }))
  writeFileSync(join(root, 'etc', 'odd.spec'), 'no address')
  t.equal(await get('deep'), 'deep')
  t.equal(await get('far'), 'by tcp')
  t.equal(await get('json'), 'by tcp')
  await t.rejects(get('odd'), {
    code: 'PLUGIN_INVALID',
    message: /odd\.spec holds no address of a plugin: "no address"/,
  })
  await t.rejects(get('none'), { code: 'PLUGIN_NOT_FOUND', message: 'plugin "none" not found' })
  await t.rejects(get('../etc/odd'), { code: 'PLUGIN_NOT_FOUND' })
})

t.test('by the engine that manages it', async (t) => {
  const { root, engine, get } = await machine(t)
  mkdirSync(join(root, 'sockets', 'abc'))
  const { asked } = await plugin(t, join(root, 'sockets', 'abc', 'x.sock'), () => value('managed'))
  const listed = (over: object, capability = 'secretprovider') => ({
    Id: 'abc',
    Name: 'acme/vault:latest',
    Enabled: true,
    Config: { Interface: { Types: [{ Prefix: 'docker', Capability: capability, Version: '1.0' }], Socket: 'x.sock' } },
    ...over,
  })
  engine.answers.set('/plugins', [listed({})])
  t.equal(await get('acme/vault'), 'managed')
  t.same(
    asked.map(({ path }) => path),
    ['/SecretProvider.GetSecret'],
    'the engine has activated it',
  )
  engine.answers.set('/plugins', [listed({ Enabled: false })])
  await t.rejects(get('acme/vault:latest'), { message: 'plugin "acme/vault:latest" found but disabled' })
  engine.answers.set('/plugins', [listed({}, 'volumedriver')])
  await t.rejects(get('acme/vault'), { message: 'plugin "acme/vault:latest" does not implement secretprovider' })
  await engine.close()
  await plugin(t, join(root, 'sockets', 'plain.sock'), () => value('plain'))
  t.equal(await get('plain'), 'plain', 'without an engine the others are still there')
})

t.test('what a plugin refuses is told in its words', async (t) => {
  const { root, get } = await machine(t)
  const serve = (name: string, status: number, text: string, capability?: string) =>
    plugin(t, join(root, 'sockets', `${name}.sock`), () => ({ status, text }), capability)
  await serve('denies', 200, JSON.stringify({ Err: 'no such secret' }))
  await serve('fails', 500, JSON.stringify({ Err: 'out of order' }))
  await serve('odd', 404, 'page not found\n')
  await serve('text', 200, 'hello')
  await serve('volumes', 200, '{}', 'VolumeDriver')
  await t.rejects(get('denies'), { code: 'PLUGIN_ERROR', retryable: false, message: 'no such secret' })
  await t.rejects(get('fails'), { code: 'PLUGIN_ERROR', message: 'out of order' })
  await t.rejects(get('odd'), { message: '/SecretProvider.GetSecret answers 404: page not found' })
  await t.rejects(get('text'), { message: '/SecretProvider.GetSecret answers with what is no JSON' })
  await t.rejects(get('volumes'), { message: 'plugin "volumes" does not implement secretprovider' })
  await serve('talks', 200, JSON.stringify({ Err: 'no '.repeat(100_000) }))
  await serve('shouts', 500, JSON.stringify({ Err: 'no '.repeat(100_000) }))
  // It goes into the log of the managers with each task that is rejected.
  for (const name of ['talks', 'shouts']) await t.rejects(get(name), { message: /^(?:no )+\S*…$/ })
  for (const name of ['talks', 'shouts']) await get(name).catch((error) => t.ok(error.message.length <= 501, name))
  rmSync(join(root, 'sockets', 'denies.sock'))
  await t.rejects(get('denies'), { code: 'PLUGIN_NOT_FOUND' })
})
