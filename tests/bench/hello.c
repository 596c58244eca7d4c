/* The floor of `make bench`: a bare libmicrohttpd in the mode that lstmd uses.
 *
 *   cc -O2 tests/bench/hello.c -lmicrohttpd -o hello; ./hello     prints its port, ends when its standard input ends
 */
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **state)
{
    static int seen;
    static char text[] = "hello\n";
    (void)context, (void)url, (void)method, (void)version, (void)data;
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*size > 0) {
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(sizeof text - 1, text, MHD_RESPMEM_PERSISTENT);
    const enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

int main(void)
{
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, NULL, MHD_OPTION_END);
    if (daemon == NULL) return 1;
    printf("%u\n", (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    const int epoll = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    struct pollfd wanted[] = {{.fd = epoll, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    while (poll(wanted, 2, 1000) >= 0 && wanted[1].revents == 0) MHD_run(daemon);
    MHD_stop_daemon(daemon);
    return 0;
}
