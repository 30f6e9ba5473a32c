// Mistakes in compose files: docker's words (recorded by compose-record.ts), with file, line and column before them, and
// nothing sent.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ENVIRONMENT, GOLDEN } from './compose-cases.ts'
import { DEPLOY_MISTAKES, MISTAKES } from './compose-error-cases.ts'
import { StackRecorder } from './compose-recorder.ts'
import { swarmctl } from './compose-run.ts'

const golden = JSON.parse(readFileSync(join(GOLDEN, 'errors.json'), 'utf8')) as Readonly<Record<string, string>>

/** Where swarmctl says or does something else, and why. */
const DIFFERENCES: Readonly<Record<string, { readonly reason: string; readonly says: string | undefined }>> = {
  'an unknown order': {
    reason: 'docker says the path twice',
    says: 'services.web.deploy.update_config.order must be one of the following: "start-first", "stop-first"',
  },
  'a command with an open quote': {
    reason: 'docker names a field of its own program',
    says: 'EOF found when expecting closing quote',
  },
  'memory that is no size': { reason: 'docker names a field of its own program', says: "invalid size: 'lots'" },
  'environment with a list as value': {
    reason: 'the Specification takes a boolean there',
    says: 'services.web.environment.A must be a string, number, boolean or null',
  },
  'depends_on as a mapping': {
    reason: 'the Specification has it; docker does not look at what is named',
    says: 'service "web" depends on undefined service "db"',
  },
  'env_file as a mapping': { reason: 'the Specification has it', says: 'open ' },
  'extends is forbidden': {
    reason: 'the Specification has it',
    says: 'cannot extend service "web": service "a" not found in ',
  },
  'include, of the Specification': { reason: 'the Specification has it', says: 'open ' },
  ...Object.fromEntries(
    [
      'a port with an unknown key',
      'a published port as text',
      'environment with a boolean',
      'a command that is null',
      'replicas as text',
      'cpus as a number',
      'device reservations',
      'a boolean as text',
      'a boolean as old yes',
      'a ulimit as text',
      'a mode as text',
      'group_add, of the Specification',
      'profiles, of the Specification',
      'old limits are forbidden',
      'enable_ipv6, of the Specification',
      'a subnet with a gateway',
      'a config with content, of the Specification',
      'version 2',
      'a version of the future',
      'name, of the Specification',
    ].map((name) => [name, { reason: 'the Specification takes it', says: undefined }]),
  ),
}

const folder = mkdtempSync(join(tmpdir(), 'compose-errors-'))
t.teardown(() => rmSync(folder, { recursive: true }))

for (const [name, text] of Object.entries({ ...MISTAKES, ...DEPLOY_MISTAKES })) {
  t.test(name, async (t) => {
    const file = join(folder, `${name.replaceAll(/\W/g, '-')}.yml`)
    writeFileSync(file, text)
    const recorder = new StackRecorder()
    const socket = `${file}.sock`
    await recorder.listen(socket)
    t.teardown(() => recorder.close())
    const environment = { ...ENVIRONMENT, DOCKER_HOST: `unix://${socket}` }
    const words = name in MISTAKES ? ['stack', 'config', '-c', file] : ['stack', 'deploy', '-d', '-c', file, 'st']
    const ran = await swarmctl(words, environment)
    const difference = DIFFERENCES[name]
    const wanted = difference ? difference.says : golden[name]?.replace(/^Ignoring .*\n\n/, '')
    t.same(recorder.take(), [], 'nothing is sent')
    if (wanted === undefined || wanted === '') {
      t.equal(ran.exitCode, 0, ran.stderr)
      return
    }
    t.not(ran.exitCode, 0)
    const place = new RegExp(`^${file.replaceAll('.', '\\.')}:[0-9]+:[0-9]+: `, 'm')
    t.match(ran.stderr, place, 'it names the place')
    const said = ran.stderr.slice(ran.stderr.search(place)).replace(place, '')
    t.equal(said.slice(0, wanted.length), wanted)
  })
}
