/** The version of swarmctl, as package.json has it. */
export const VERSION = '0.0.0'
