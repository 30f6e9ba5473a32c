// The compose files of a command line → one model; their warnings go to stderr.

import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { CliError, type Context, type Flag } from '../command.ts'
import { readText } from '../compose/env-file.ts'
import { loadCompose, projectDirectory } from '../compose/load.ts'
import type { ComposeModel } from '../compose/model.ts'
import { MAX_FILE_BYTES } from '../compose/parse-yaml.ts'
import type { ComposeFile } from '../compose/project.ts'
import { BUILD_REASON } from '../compose/service-keys.ts'
import { parseCsvRecord } from '../csv.ts'
import { type Flags, textsType } from '../flags.ts'
import { parseReference } from '../reference.ts'
import { ValueError } from '../strconv.ts'

export const composeFlags: readonly Flag[] = [
  { name: 'compose-file', short: 'c', type: textsType, help: 'Path to a Compose file, or "-" to read from stdin' },
  {
    name: 'env-file',
    type: textsType,
    help: 'Files of variables for the Compose file (default ".env" beside it)',
  },
  {
    name: 'profile',
    type: textsType,
    help: 'Deploy services of this profile too ("*" for all)',
  },
]

export interface ComposeInputOptions {
  readonly skipInterpolation?: boolean
  readonly onWarning: (warning: string) => void
}

/** @throws {CliError} */
export async function readCompose(
  context: Context,
  flags: Flags,
  { skipInterpolation = false, onWarning }: ComposeInputOptions,
): Promise<ComposeModel> {
  const names = slices(flags, 'compose-file')
  if (names.length === 0) throw new CliError('specify a Compose file (with --compose-file)')
  const files: ComposeFile[] = []
  for (const name of names) {
    files.push(
      name === '-'
        ? { name: 'stdin', text: await readStdin(context) }
        : { name, text: read(name), path: resolve(name) },
    )
  }
  const { model, warnings } = loadCompose(files, {
    directory: projectDirectory(names),
    environment: context.environment,
    envFiles: slices(flags, 'env-file'),
    profiles: flags.list('profile'),
    skipInterpolation,
  })
  for (const warning of warnings) onWarning(warning)
  return model
}

/** @throws {CliError} for a service without an image, or with one that is no reference. */
export function checkImages(model: ComposeModel): void {
  for (const [name, { image = '', build, keyAt, at }] of model.services) {
    if (image === '' && build) {
      const { file, line, column } = keyAt.get('build') ?? at
      throw new CliError(`${file}:${line}:${column}: service ${name} has a build and no image: ${BUILD_REASON}`)
    }
    const where = `${at.file}:${at.line}:${at.column}: invalid image reference for service ${name}`
    if (image === '') throw new CliError(`${where}: no image specified`)
    // a full id is no reference, but it is an image
    if (parseReference(image) || /^(?:sha256:)?[a-f0-9]{64}$/.test(image)) continue
    const lower = parseReference(image.toLowerCase())
    const path = lower?.domain === 'docker.io' && !image.includes('/') ? `library/${image}` : image
    const reason = lower ? `: repository name (${path}) must be lowercase` : ''
    throw new CliError(`${where}: invalid reference format${reason}`)
  }
}

/** One value may name several, separated by commas. */
function slices(flags: Flags, name: string): readonly string[] {
  return flags.list(name).flatMap((value) => (value === '' ? [] : parseCsvRecord(value)))
}

function read(path: string): string {
  try {
    const sizeBytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    if (sizeBytes > MAX_FILE_BYTES) {
      throw new CliError(`${path}: the file is too large: ${sizeBytes} bytes, ${MAX_FILE_BYTES} at most`)
    }
    return readText(path)
  } catch (error) {
    if (error instanceof ValueError) throw new CliError(error.message)
    throw error
  }
}

async function readStdin(context: Context): Promise<string> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  for await (const chunk of context.stdin) {
    const bytes = Buffer.from(chunk as Buffer)
    sizeBytes += bytes.length
    if (sizeBytes > MAX_FILE_BYTES) throw new CliError(`stdin: the file is too large: ${MAX_FILE_BYTES} bytes at most`)
    chunks.push(bytes)
  }
  return Buffer.concat(chunks).toString()
}
