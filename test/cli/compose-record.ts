// Makes the golden files of test/cli/compose-stacks/golden from the docker CLI, which needs no daemon for it:
//
//   npx tsc -p tsconfig.json && node build/test/cli/compose-record.js /usr/local/bin/docker [NAME…]
//   npx biome check --write test/cli/compose-stacks/golden
//
// Those that are there were made with docker 28.2.2.

import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CASES, composeArguments, ENVIRONMENT, GOLDEN, type GoldenFile, withoutCheckout } from './compose-cases.ts'
import { DEPLOY_MISTAKES, MISTAKES } from './compose-error-cases.ts'
import { StackRecorder } from './compose-recorder.ts'

const docker = process.argv[2] ?? 'docker'
/** All, where none is named. */
const only = new Set(process.argv.slice(3))

async function run(args: readonly string[]): Promise<{ stdout: string; stderr: string; code: number }> {
  try {
    return { ...(await promisify(execFile)(docker, args, { env: ENVIRONMENT, timeout: 20_000 })), code: 0 }
  } catch (error) {
    return error as Error & { stdout: string; stderr: string; code: number }
  }
}

mkdirSync(GOLDEN, { recursive: true })
const folder = mkdtempSync(join(tmpdir(), 'compose-record-'))
for (const names of CASES) {
  if (only.size > 0 && !only.has(names.join('+'))) continue
  const socket = join(folder, `${names.join('+')}.sock`)
  const recorder = new StackRecorder()
  await recorder.listen(socket)
  const config = await run(['stack', 'config', ...composeArguments(names)])
  const deploy = ['-H', `unix://${socket}`, 'stack', 'deploy', '-d', '--resolve-image', 'never']
  const first = await run([...deploy, ...composeArguments(names), 'st'])
  const requests = recorder.take()
  recorder.force()
  await run([...deploy, ...composeArguments(names), 'st'])
  const golden: GoldenFile = {
    config: config.stdout,
    exitCode: first.code,
    stderr: first.stderr.replaceAll(/^time="[^"]*" /gm, ''),
    requests,
    updates: recorder.take(),
  }
  recorder.close()
  writeFileSync(join(GOLDEN, `${names.join('+')}.json`), withoutCheckout(`${JSON.stringify(golden, null, 2)}\n`))
  process.stdout.write(`${names.join('+')}: ${requests.length} requests\n`)
}

const errors: Record<string, string> = {}
for (const [name, text] of Object.entries({ ...MISTAKES, ...DEPLOY_MISTAKES })) {
  const file = join(folder, 'mistake.yml')
  writeFileSync(file, text)
  const socket = join(folder, 'mistake.sock')
  const recorder = new StackRecorder()
  await recorder.listen(socket)
  const command = name in MISTAKES ? ['config'] : ['deploy', '-d', '--resolve-image', 'never']
  const operands = name in MISTAKES ? [] : ['st']
  const { stderr } = await run(['-H', `unix://${socket}`, 'stack', ...command, '-c', file, ...operands])
  recorder.close()
  rmSync(socket, { force: true })
  errors[name] = stderr.trim()
}
writeFileSync(join(GOLDEN, 'errors.json'), `${JSON.stringify(errors, null, 2)}\n`)
rmSync(folder, { recursive: true })
