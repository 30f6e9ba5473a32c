// The compose files of a command line → one model; their warnings go to stderr.

import { CliError, type Context, type Flag } from '../command.ts'
import { readText } from '../compose/env-file.ts'
import { type ComposeFile, loadCompose, projectDirectory } from '../compose/load.ts'
import type { ComposeModel } from '../compose/model.ts'
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
    files.push(name === '-' ? { name: 'stdin', text: await readStdin(context) } : { name, text: read(name) })
  }
  const { model, warnings } = loadCompose(files, {
    directory: projectDirectory(names),
    environment: context.environment,
    envFiles: slices(flags, 'env-file'),
    skipInterpolation,
  })
  for (const warning of warnings) onWarning(warning)
  return model
}

/** @throws {CliError} for a service without an image, or with one that is no reference. */
export function checkImages(model: ComposeModel): void {
  for (const [name, { image = '', at }] of model.services) {
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
    return readText(path)
  } catch (error) {
    if (error instanceof ValueError) throw new CliError(error.message)
    throw error
  }
}

async function readStdin(context: Context): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of context.stdin) chunks.push(Buffer.from(chunk as Buffer))
  return Buffer.concat(chunks).toString()
}
