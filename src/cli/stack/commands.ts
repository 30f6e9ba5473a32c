// `swarmctl stack …`

import type { Command } from '../command.ts'
import { writeConfig } from '../compose/write-config.ts'
import { filterFlag, formatFlag, positiveDurationType, quietFlag, switchType, textType } from '../flags.ts'
import { composeFlags, readCompose } from './compose-input.ts'
import { deployStack } from './deploy.ts'
import { listStackServices, listStacks, listStackTasks } from './listings.ts'
import { removeStacks } from './remove.ts'

export const stackCommands: readonly Command[] = [
  {
    name: 'config',
    usage: '[OPTIONS]',
    summary: 'Outputs the final config file, after doing merges and interpolations',
    flags: [
      ...composeFlags,
      {
        name: 'skip-interpolation',
        type: switchType,
        help: 'Skip interpolation and output only merged config',
      },
    ],
    operands: { min: 0, max: 0 },
    run: async (context, flags) => {
      const model = await readCompose(context, flags, {
        skipInterpolation: flags.on('skip-interpolation'),
        onWarning: (text) => void context.stderr.write(`${text}\n`),
      })
      context.stdout.write(writeConfig(model))
    },
  },
  {
    name: 'deploy',
    aliases: ['up'],
    usage: '[OPTIONS] STACK',
    summary: 'Deploy a new stack or update an existing stack',
    examples:
      '  swarmctl stack deploy -c compose.yml web\n  swarmctl stack deploy -c base.yml -c production.yml --prune web',
    flags: [
      ...composeFlags,
      {
        name: 'detach',
        short: 'd',
        type: switchType,
        help: 'Exit immediately instead of waiting for the stack services to converge',
      },
      { name: 'prune', type: switchType, help: 'Prune services that are no longer referenced', since: '1.27' },
      quietFlag('Suppress progress output'),
      {
        name: 'resolve-image',
        type: textType,
        help: 'Query the registry to resolve image digest and supported platforms ("always", "changed", "never")',
        shownDefault: '"always"',
        since: '1.30',
        complete: ['always', 'changed', 'never'],
      },
      {
        name: 'timeout',
        type: positiveDurationType,
        help: 'Give up waiting after this time; the deployment goes on (0 = wait as long as it takes)',
        shownDefault: '0s',
      },
      {
        name: 'with-registry-auth',
        type: switchType,
        help: 'Send registry authentication details to Swarm agents',
      },
    ],
    operands: { min: 1, max: 1 },
    run: deployStack,
  },
  {
    name: 'ls',
    aliases: ['list'],
    usage: '[OPTIONS]',
    summary: 'List stacks',
    flags: [formatFlag],
    operands: { min: 0, max: 0 },
    run: listStacks,
  },
  {
    name: 'ps',
    usage: '[OPTIONS] STACK',
    summary: 'List the tasks in the stack',
    flags: [
      filterFlag,
      formatFlag,
      { name: 'no-resolve', type: switchType, help: 'Do not map IDs to Names' },
      { name: 'no-trunc', type: switchType, help: 'Do not truncate output' },
      quietFlag('Only display task IDs'),
    ],
    operands: { min: 1, max: 1 },
    run: listStackTasks,
  },
  {
    name: 'rm',
    aliases: ['remove', 'down'],
    usage: '[OPTIONS] STACK [STACK...]',
    summary: 'Remove one or more stacks',
    flags: [{ name: 'detach', short: 'd', type: switchType, help: 'Do not wait for stack removal' }],
    operands: { min: 1, max: undefined },
    run: removeStacks,
  },
  {
    name: 'services',
    usage: '[OPTIONS] STACK',
    summary: 'List the services in the stack',
    flags: [filterFlag, formatFlag, quietFlag('Only display IDs')],
    operands: { min: 1, max: 1 },
    run: listStackServices,
  },
]
