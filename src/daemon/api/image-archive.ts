// `docker save`'s archive without the layers that the other engine has already: `docker load` looks whether it has a layer before it
// reads its contents, so a registry is not needed to send only what is missing.

import type { Readable } from 'node:stream'
import { extract, pack } from 'tar-stream'
import { CodedError } from '../../lib/errors.ts'
import { asList, asObject, asText, parseJson } from './engine-json.ts'

/** How an archive names the layers of an image, the lowest first. */
export type LayerPaths = readonly string[]

const MAX_MANIFEST_BYTES = 4 * 1024 * 1024

/** Reads an archive to its end for the names of its layers. @throws {CodedError} where it is no archive of one image */
export async function layerPaths(archive: Readable): Promise<LayerPaths> {
  const entries = extract()
  const found = new Promise<LayerPaths>((resolve, reject) => {
    let paths: LayerPaths | undefined
    entries.on('entry', (header, body, next) => {
      if (header.name !== 'manifest.json') {
        body.on('end', next)
        body.resume()
        return
      }
      readSmall(body).then((bytes) => {
        paths = asList(asObject(asList(parseJson(bytes.toString('utf8')))[0]).Layers).map(asText)
        next()
      }, next)
    })
    entries.on('finish', () => {
      if (paths) resolve(paths)
      else reject(new CodedError('UNKNOWN', 'the engine’s archive has no manifest'))
    })
    entries.on('error', reject)
    archive.on('error', reject)
  })
  archive.pipe(entries)
  return await found
}

async function readSmall(body: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    size += (chunk as Buffer).length
    if (size > MAX_MANIFEST_BYTES) throw new CodedError('UNKNOWN', 'the archive’s manifest is too large')
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}

/** The archive without the contents of these layers. Destroyed with the error when `archive` breaks. */
export function withoutLayers(archive: Readable, left: ReadonlySet<string>): Readable {
  const entries = extract()
  const rest = pack()
  const fail = (error: Error): void => void rest.destroy(error)
  entries.on('entry', (header, body, next) => {
    if (left.has(header.name)) {
      body.on('end', next)
      body.resume()
      return
    }
    body.pipe(rest.entry(header, (error) => (error ? next(error) : next())))
  })
  entries.on('finish', () => rest.finalize())
  entries.on('error', fail)
  archive.on('error', fail)
  rest.on('close', () => archive.destroy())
  archive.pipe(entries)
  return rest
}
