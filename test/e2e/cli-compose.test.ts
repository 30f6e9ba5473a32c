// The docker CLI of Debian (20.10) and swarmctl with the same stack files: what they send to deploy them and to deploy them again.
// Newer ones are compared with what docker 28 was recorded to send, in test/cli/compose-docker.test.ts.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { run } from '../../lab/run.ts'
import { CASES, ENVIRONMENT, STACKS } from '../cli/compose-cases.ts'
import { byName, DIFFERENCES, unexplained } from '../cli/compose-compare.ts'
import { StackRecorder } from '../cli/compose-recorder.ts'
import { swarmctl } from '../cli/compose-run.ts'

const DOCKER = '/usr/bin/docker'
/** What this docker says of forms and keys that came later. */
const TOO_NEW = /Non-string key|Unknown mode|Additional property|must be a |expected type|Does not match/
/** What later ones do otherwise, and swarmctl as they. */
const SINCE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'forms-hosts': { 'st_list.TaskTemplate.ContainerSpec.Hosts': 'an = separates as well as a :' },
  'forms-volumes': { 'st_long.TaskTemplate.ContainerSpec.Mounts': 'a volume may have a subpath' },
  'agree-base+agree-prod': { 'st_web.TaskTemplate.ContainerSpec.Mounts': 'volumes are merged by their targets' },
  'agree-base+agree-prod+agree-test': {
    'st_web.TaskTemplate.ContainerSpec.Mounts': 'volumes are merged by their targets',
  },
}
const FEWEST = 55

const folder = mkdtempSync(join(tmpdir(), 'cli-compose-'))
t.teardown(() => rmSync(folder, { recursive: true }))
let compared = 0

/** The files as this docker takes them: its schema ended at 3.9, and without a version a file was one of another kind. */
const stacks = join(folder, 'stacks')
cpSync(STACKS, stacks, { recursive: true })
for (const name of readdirSync(stacks).filter((file) => file.endsWith('.yml'))) {
  const text = readFileSync(join(stacks, name), 'utf8')
  const hasVersion = /^version:/m.test(text) || text.startsWith('{')
  const body = text.replace(/^version:.*$/m, 'version: "3.9"')
  writeFileSync(join(stacks, name), hasVersion ? body : body.replace(/^(---\n)?/, '$1version: "3.9"\n'))
}

async function recorded(test: { teardown(handler: () => void): void }, name: string) {
  const recorder = new StackRecorder()
  const socket = join(folder, name)
  await recorder.listen(socket)
  test.teardown(() => recorder.close())
  return { recorder, host: `unix://${socket}` }
}

for (const [i, names] of CASES.entries()) {
  t.test(names.join('+'), async (t) => {
    const flags = [
      'stack',
      'deploy',
      '--resolve-image',
      'never',
      ...names.flatMap((name) => ['-c', join(stacks, `${name}.yml`)]),
      'st',
    ]
    const docker = await recorded(t, `docker-${i}`)
    const env = { ...ENVIRONMENT, DOCKER_HOST: docker.host }
    const old = await run([DOCKER, ...flags], { env, timeoutMs: 60_000 })
    if (old.code !== 0) {
      t.match(old.stderr, TOO_NEW, 'this docker is too old for the file')
      return
    }
    const ours = await recorded(t, `swarmctl-${i}`)
    const deploy = () =>
      swarmctl([...flags.slice(0, 2), '-d', ...flags.slice(2)], { ...ENVIRONMENT, DOCKER_HOST: ours.host })
    const ran = await deploy()
    t.equal(ran.exitCode, 0, ran.stderr)
    const where = { ...DIFFERENCES[names.join('+')]?.where, ...SINCE[names.join('+')] }
    t.same(unexplained(byName(ours.recorder.take()), byName(docker.recorder.take()), where), [], 'the same objects')
    docker.recorder.force()
    ours.recorder.force()
    await run([DOCKER, ...flags], { env, timeoutMs: 60_000 })
    await deploy()
    t.same(unexplained(byName(ours.recorder.take()), byName(docker.recorder.take()), where), [], 'the same updates')
    compared++
  })
}

t.test('this docker takes enough of the files', async (t) => {
  t.ok(compared >= FEWEST, `${compared} of ${CASES.length}`)
  t.comment(`${compared} of ${CASES.length} files`)
})
