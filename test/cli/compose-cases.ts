// The stack files that docker and swarmctl are compared on: each reaches other keys and forms. Files of several are
// merged, with a -c each.

import { join } from 'node:path'
import type { Recorded } from './compose-recorder.ts'

export const STACKS = join(process.cwd(), 'test/cli/compose-stacks')
export const GOLDEN = join(STACKS, 'golden')

export const CASES: readonly (readonly string[])[] = [
  ['agree-base', 'agree-prod', 'agree-test'],
  ['agree-base', 'agree-prod'],
  ['agree-base', 'agree-test'],
  ['agree-base'],
  ['anchors'],
  ['as-labels'],
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
  ['credential-config'],
  ['credentials'],
  ['deploy'],
  ['environment'],
  ['extensions-everywhere'],
  ['files'],
  ['forms-capabilities'],
  ['forms-commands'],
  ['forms-deploy'],
  ['forms-environment'],
  ['forms-external'],
  ['forms-files'],
  ['forms-healthcheck'],
  ['forms-hosts'],
  ['forms-images'],
  ['forms-labels'],
  ['forms-names'],
  ['forms-networks'],
  ['forms-ports'],
  ['forms-restart'],
  ['forms-ulimits'],
  ['forms-volumes'],
  ['full-deployable'],
  ['full-example'],
  ['healthchecks'],
  ['ignored'],
  ['interpolation'],
  ['left-out'],
  ['many-services'],
  ['merge-base', 'merge-over', 'merge-third'],
  ['merge-base', 'merge-over'],
  ['minimal'],
  ['networks'],
  ['old'],
  ['ports'],
  ['process'],
  ['process-all'],
  ['restart'],
  ['same-contents'],
  ['same-limits'],
  ['same-mounts'],
  ['same-ports'],
  ['same-variables'],
  ['scalars'],
  ['secret-drivers'],
  ['variables-forms'],
  ['volumes'],
  ['voting-app'],
  ['wild-elk'],
  ['wild-gitlab'],
  ['wild-gpu'],
  ['wild-kafka'],
  ['wild-mongo'],
  ['wild-monitoring'],
  ['wild-nextcloud'],
  ['wild-portainer'],
  ['wild-registry'],
  ['wild-traefik'],
  ['wild-windows'],
  ['wild-wordpress'],
  ['x-cluster'],
  ['yaml-anchors'],
  ['yaml-documents'],
  ['yaml-json'],
  ['yaml-scalars'],
]

/** Files with what docker's schema lacks, and those with which docker means the same. */
export const SPECIFICATION: readonly {
  readonly files: readonly string[]
  readonly like: readonly string[]
  readonly flags?: readonly string[]
}[] = [
  { files: ['spec-extends'], like: ['process-all'] },
  { files: ['spec-include'], like: ['wild-gitlab'] },
  { files: ['spec-types'], like: ['forms-deploy'] },
  { files: ['spec-limits'], like: ['same-limits'] },
  { files: ['spec-profiles'], like: ['yaml-json'], flags: ['--profile', 'wanted'] },
  { files: ['spec-contents'], like: ['same-contents'] },
  { files: ['spec-mounts'], like: ['same-mounts'] },
  { files: ['spec-reset-base', 'spec-reset'], like: ['agree-base', 'agree-prod'] },
  { files: ['spec-ports'], like: ['same-ports'] },
  { files: ['spec-variables'], like: ['same-variables'] },
  { files: ['spec-version'], like: ['yaml-json'] },
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
