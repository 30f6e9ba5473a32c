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
  'extends is forbidden': {
    reason: 'docker stack config does not say which',
    says: 'compose file contains unsupported options:\n\nextends: Support for `extends` is not implemented yet.\n',
  },
  'old limits are forbidden': {
    reason: 'docker stack config does not say which',
    says: 'compose file contains unsupported options:\n\ncpu_shares: Set resource limits using deploy.resources\n\nmem_limit: Set',
  },
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
