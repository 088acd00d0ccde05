from socket import *
from socket import SocketIO as SocketIO
