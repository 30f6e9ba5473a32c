// swarmctl in this process, its output caught.

import { PassThrough, Readable } from 'node:stream'
import type { Environment } from '../../src/cli/command.ts'
import { run } from '../../src/cli/run.ts'

export interface Ran {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export async function swarmctl(words: readonly string[], environment: Environment, stdin = ''): Promise<Ran> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const texts = { stdout: '', stderr: '' }
  stdout.on('data', (chunk: Buffer) => {
    texts.stdout += chunk.toString()
  })
  stderr.on('data', (chunk: Buffer) => {
    texts.stderr += chunk.toString()
  })
  const exitCode = await run(words, environment, { stdin: Readable.from([Buffer.from(stdin)]), stdout, stderr })
  await new Promise<void>((resolve) => {
    stdout.on('end', resolve)
    stdout.end()
  })
  return { exitCode, ...texts }
}
