// A plugin of qemu: how often each block of instructions runs. At the end a line for each block goes to the file that BLOCKS names:
// the address of its first instruction behind the beginning of the program, how many there are, and how often they ran. The blocks
// of libraries are left out where BLOCKS_OF_PROGRAM is set, else their addresses say nothing.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_start_code(void);
uint64_t qemu_plugin_end_code(void);

int qemu_plugin_version = INTERFACE;

struct block {
    uint64_t address, instructions, runs;
    struct block *next;
};
static struct block *blocks;

static void executed(unsigned cpu, void *block) {
    (void)cpu;
    __atomic_fetch_add(&((struct block *)block)->runs, 1, __ATOMIC_RELAXED);
}
static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->next = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&blocks, &block->next, block, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, block);
}
static void ended(uint64_t id, void *none) {
    (void)id, (void)none;
    uint64_t start = qemu_plugin_start_code(), end = qemu_plugin_end_code();
    FILE *file = fopen(getenv("BLOCKS"), "w");
    if (!file)
        abort();
    for (struct block *block = blocks; block; block = block->next) {
        int of_program = block->address >= start && block->address < end;
        if (of_program || !getenv("BLOCKS_OF_PROGRAM"))
            fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", block->address - start, block->instructions, block->runs);
    }
    fclose(file);
}
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
