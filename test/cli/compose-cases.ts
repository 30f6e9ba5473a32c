// The stack files that docker and swarmctl are compared on: each reaches other keys and forms. Files of several are
// merged, with a -c each.

import { join } from 'node:path'
import type { Recorded } from './compose-recorder.ts'

export const STACKS = join(process.cwd(), 'test/cli/compose-stacks')
export const GOLDEN = join(STACKS, 'golden')

export const CASES: readonly (readonly string[])[] = [
  ['anchors'],
  ['course-secrets-assignment-1-answer-docker-compose'],
  ['course-secrets-sample-2-docker-compose'],
  ['course-stack-1-example-voting-app-stack'],
  ['course-stack-3-docker-compose', 'course-stack-3-docker-compose.override'],
  ['course-stack-3-docker-compose', 'course-stack-3-docker-compose.prod'],
  ['course-stack-3-docker-compose', 'course-stack-3-docker-compose.test'],
  ['course-stack-4-answer-voting-app-placement'],
  ['course-stack-4-voting-app-placement'],
  ['course-stack-5-example-voting-app-stack'],
  ['course-stack-6-example-voting-app-stack'],
  ['course-visualizer-docker-stack'],
  ['credentials'],
  ['deploy'],
  ['environment'],
  ['files'],
  ['full-deployable'],
  ['full-example'],
  ['healthchecks'],
  ['ignored'],
  ['interpolation'],
  ['merge-base', 'merge-over'],
  ['merge-base', 'merge-over', 'merge-third'],
  ['minimal'],
  ['networks'],
  ['old'],
  ['ports'],
  ['process'],
  ['restart'],
  ['scalars'],
  ['volumes'],
  ['voting-app'],
]

/** All that the files' variables and the programs may see. */
export const ENVIRONMENT = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/home/user',
  DOCKER_CONFIG: '/nonexistent',
  HOST_NAME: 'host',
  EMPTY_NAME: '',
  PORT: '8080',
  YES: 'yes',
  NO: 'no',
  COUNT: '3',
  RATIO: '0.5',
  STACK_SUFFIX: 'sfx',
}

export const composeArguments = (names: readonly string[]): string[] =>
  names.flatMap((name) => ['-c', join(STACKS, `${name}.yml`)])

/** Paths of this checkout are none of the results. */
export const withoutCheckout = (text: string): string =>
  text.replaceAll(STACKS, '/work/stacks').replaceAll(join(process.cwd(), 'test/cli'), '/work')

export interface GoldenFile {
  /** What `docker stack config` prints. */
  readonly config: string
  /** Of the first `docker stack deploy`. */
  readonly exitCode: number
  readonly stderr: string
  /** What the first deployment sends. */
  readonly requests: readonly Recorded[]
  /** What the second one sends, after each service was updated by force. */
  readonly updates: readonly Recorded[]
}
