// `POST /swarmd/images/push?name=`: brings an image of this machine to other nodes, layer by layer what they lack, so that a cluster
// needs no registry. The answer is a stream of JSON lines, one whenever something is to be said of a node.

import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Node } from '../../api/objects.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import { type Call, parameter } from './call.ts'
import { Engine } from './engine.ts'
import { asList, asObject, asText, parseJson } from './engine-json.ts'
import { type LayerPaths, layerPaths, withoutLayers } from './image-archive.ts'
import { requireManager } from './node-state.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

/** Each reads the whole image from this machine's engine. */
const NODES_AT_ONCE = 2
/** Of another node's images: enough to find a common base. */
const IMAGES_LOOKED_AT = 200
const MAX_ANSWER_BYTES = 1024 * 1024
const API = '/v1.41'

export interface PushLine {
  readonly Node: string
  readonly State: 'present' | 'sending' | 'loaded' | 'failed'
  /** sending: how many layers, of how many */
  readonly Layers?: number
  readonly Total?: number
  readonly Bytes?: number
  readonly Message?: string
}

interface Image {
  readonly name: string
  readonly id: string
  /** DiffIDs, the lowest first */
  readonly layers: readonly string[]
}

export function imagePushRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'manager',
      method: 'POST',
      path: '/swarmd/images/push',
      handle: (call) => push(server, call),
    },
  ]
}

/** `?name=` of a local image; `?node=` ids or hostnames, separated by commas: only those, where all ready nodes are meant otherwise. */
async function push(server: ServerContext, call: Call): Promise<void> {
  const name = parameter(call, 'name')
  if (name === '') throw refusal('name is required: which image of this machine')
  const { view, nodeId: self } = requireManager(server.cluster.state())
  const wanted = parameter(call, 'node')
    .split(',')
    .filter((name) => name !== '')
  const nodes = chosen(view.list('node'), wanted).filter(({ id }) => id !== self)
  const image = await inspect(server.engine, name)
  if (!image) throw new CodedError('NO_SUCH_OBJECT', `No such image: ${name} (on this machine: pull or build it first)`)
  call.response.writeHead(200, { 'Content-Type': 'application/json' })
  call.response.flushHeaders()
  const say = (line: PushLine): void => void call.response.write(`${JSON.stringify(line)}\n`)
  let paths: Promise<LayerPaths> | undefined
  const readPaths = () => {
    paths ??= save(server.engine, image).then(layerPaths)
    return paths
  }
  const waiting = [...nodes]
  const next = async (): Promise<void> => {
    for (let node = waiting.shift(); node && !call.signal.aborted; node = waiting.shift()) {
      const hostname = node.description.Hostname ?? node.id
      try {
        await pushTo(server, node, hostname, image, readPaths, say)
      } catch (error) {
        say({ Node: hostname, State: 'failed', Message: errorMessage(error) })
      }
    }
  }
  await Promise.all(Array.from({ length: NODES_AT_ONCE }, next))
  call.response.end()
}

function chosen(all: readonly Node[], wanted: readonly string[]): readonly Node[] {
  if (wanted.length === 0) return all.filter(({ status }) => status.state === 'ready')
  return wanted.map((name) => {
    const node = all.find(({ id, description }) => id === name || description.Hostname === name)
    if (!node) throw new CodedError('NO_SUCH_OBJECT', `node ${name} not found`)
    return node
  })
}

async function inspect(engine: Engine, reference: string): Promise<Image | undefined> {
  const answer = await engine.get(`${API}/images/${encodeURIComponent(reference)}/json`)
  if (answer.status !== 200) return undefined
  const json = asObject(parseJson(answer.body))
  const layers = asList(asObject(json.RootFS).Layers).map(asText)
  return { name: reference, id: asText(json.Id), layers }
}

async function pushTo(
  server: ServerContext,
  { id }: Node,
  hostname: string,
  image: Image,
  readPaths: () => Promise<LayerPaths>,
  say: (line: PushLine) => void,
): Promise<void> {
  const dial = () => server.cluster.dialNode(id)
  const engine = new Engine({ kind: 'dialed', name: `node ${hostname}`, dial }, server.clock)
  const there = await inspect(engine, image.id)
  const isTag = !image.name.startsWith('sha256:') && !image.name.includes('@')
  if (there) {
    if (isTag) await tag(engine, image)
    say({ Node: hostname, State: 'present' })
    return
  }
  const common = await commonLayers(engine, image)
  const paths = await readPaths()
  const left = new Set(paths.length === image.layers.length ? paths.slice(0, common) : [])
  const Total = image.layers.length
  say({ Node: hostname, State: 'sending', Layers: Total - left.size, Total })
  const archive = withoutLayers(await save(server.engine, image), left)
  let Bytes = 0
  archive.on('data', (chunk: Buffer) => {
    Bytes += chunk.length
  })
  await load(engine, archive)
  const loaded = await inspect(engine, image.id)
  if (!loaded) throw new CodedError('UNKNOWN', `the engine has loaded it, but does not know ${image.id}`)
  if (isTag) await tag(engine, image)
  say({ Node: hostname, State: 'loaded', Layers: Total - left.size, Total, Bytes })
}

/** How many of the lowest layers an image of the node has as well. */
async function commonLayers(engine: Engine, { layers }: Image): Promise<number> {
  const images = asList(parseJson((await engine.get(`${API}/images/json`)).body)).map(asObject)
  let most = 0
  for (const { Id } of images.slice(0, IMAGES_LOOKED_AT)) {
    const other = await inspect(engine, asText(Id))
    const same = layers.findIndex((layer, at) => other?.layers[at] !== layer)
    most = Math.max(most, same === -1 ? layers.length : same)
  }
  return most
}

/** The whole image, as a stream. */
async function save(engine: Engine, { name }: Image): Promise<Readable> {
  const outgoing = engine.request({
    method: 'GET',
    path: `${API}/images/${encodeURIComponent(name)}/get`,
    headers: { host: 'docker' },
  })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  if (incoming.statusCode === 200) return incoming
  throw new CodedError('UNKNOWN', `the engine does not give the image: ${await textOf(incoming)}`)
}

async function load(engine: Engine, archive: Readable): Promise<void> {
  const outgoing = engine.request({
    method: 'POST',
    path: `${API}/images/load?quiet=1`,
    headers: { host: 'docker', 'content-type': 'application/x-tar', 'transfer-encoding': 'chunked' },
  })
  const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>
  answered.catch(() => {}) // the archive's own failure is told first
  await pipeline(archive, outgoing)
  const [incoming] = await answered
  const text = await textOf(incoming)
  const problem = text
    .split('\n')
    .map((line) => asText(asObject(parseJson(line)).error))
    .find((error) => error !== '')
  if (incoming.statusCode === 200 && problem === undefined) return
  throw new CodedError('UNKNOWN', `the node's engine did not load it: ${problem ?? text}`)
}

async function tag(engine: Engine, { id, name }: Image): Promise<void> {
  const at = name.lastIndexOf(':')
  const hasTag = at > name.lastIndexOf('/')
  const query = new URLSearchParams({
    repo: hasTag ? name.slice(0, at) : name,
    tag: hasTag ? name.slice(at + 1) : 'latest',
  })
  await engine.get(`${API}/images/${encodeURIComponent(id)}/tag?${query.toString()}`, 'POST')
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of incoming) {
    size += (chunk as Buffer).length
    if (size <= MAX_ANSWER_BYTES) chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8').trim()
}
